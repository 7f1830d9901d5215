"""Start a workflow with nothing but a Kafka client and `schemas/`: python produce_command.py HOST:PORT WORKFLOW_ID."""

import io
import json
import sys
import uuid
from pathlib import Path

import confluent_kafka
import fastavro.schema

schema = json.loads((Path(__file__).parents[2] / "schemas/commands/StartWorkflow.v1.avsc").read_text(encoding="utf-8"))
command = {"id": str(uuid.uuid4()), "workflow_id": sys.argv[2], "workflow_type": "order"}
command["arguments"] = {"data": json.dumps({"order_id": "7", "items": ["pen"], "cents": 9}).encode()}
fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
value = io.BytesIO(b"\xc3\x01" + bytes.fromhex(fingerprint))
value.seek(10)
fastavro.schemaless_writer(value, fastavro.parse_schema(schema), command)
producer = confluent_kafka.Producer({"bootstrap.servers": sys.argv[1], "partitioner": "murmur2_random"})
producer.produce("shop.commands", key=sys.argv[2], value=value.getvalue())
sys.exit(producer.flush(30))
