"""Signal or cancel a run with a Kafka client and `schemas/`: python steer_command.py HOST:PORT WORKFLOW_ID COMMAND."""

import io
import json
import sys
import uuid
from pathlib import Path

import confluent_kafka
import fastavro.schema

commands = {
    "SignalWorkflow": {"name": "approved", "payload": {"data": json.dumps(True).encode()}},
    "CancelWorkflow": {"reason": "the customer left"},
}
command = {"id": str(uuid.uuid4()), "workflow_id": sys.argv[2], **commands[sys.argv[3]]}
file = Path(__file__).parents[2] / "schemas/commands" / f"{sys.argv[3]}.v1.avsc"
schema = json.loads(file.read_text(encoding="utf-8"))
fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
value = io.BytesIO(b"\xc3\x01" + bytes.fromhex(fingerprint))
value.seek(10)
fastavro.schemaless_writer(value, fastavro.parse_schema(schema), command)
producer = confluent_kafka.Producer({"bootstrap.servers": sys.argv[1], "partitioner": "murmur2_random"})
producer.produce("shop.commands", key=sys.argv[2], value=value.getvalue())
sys.exit(producer.flush(30))
