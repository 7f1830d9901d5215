"""A broker that is also reached through the proxy, and topics on it.

`python -m tests.faults.proxied --port 19092 --advertised 19095` starts the embedded one alone, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.devkafka import DevKafka
from tests.faults import naive_loop
from tests.faults.kafka_proxy import KafkaProxy

SETTLE_S = 5


@dataclass(frozen=True)
class Proxied:
    """Bootstrap servers past the proxy and through it."""

    direct: str
    proxied: str
    proxy: KafkaProxy

    def name(self, kind: str) -> str:
        """A name that nobody else has."""
        return f"{kind}-{uuid.uuid4().hex[:8]}"

    def topic(self) -> str:
        """A new topic of one partition."""
        (name,) = naive_loop.make_topics(self.direct, 1)
        return name

    def wait_visible(self, topic: str, value: str) -> bool:
        """Whether a record becomes visible within a few seconds: it need not, under a loop that shuts the hole."""
        end = time.monotonic() + SETTLE_S
        while value not in self.visible(topic):
            if time.monotonic() > end:
                return False
        return True

    def visible(self, topic: str) -> list[str]:
        """Every record that a read_committed reader sees, to the stable end at the time of the call."""
        return naive_loop.visible(self.direct, topic)


@contextlib.contextmanager
def proxied_broker() -> Iterator[Proxied]:
    """One node with a proxy before its second listener."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    broker = DevKafka.start(nodes=1, proxy_port=port)
    try:
        with KafkaProxy(broker.nodes[0].proxied_port, port=port) as proxy:
            yield Proxied(broker.bootstrap, f"127.0.0.1:{port}", proxy)
    finally:
        broker.stop()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where the broker is reached past a proxy")
    parser.add_argument("--advertised", type=int, required=True, help="where a proxy of yours will listen")
    options = parser.parse_args()
    broker = DevKafka.start(nodes=1, port=options.port, proxy_port=options.advertised)
    try:
        behind = f"127.0.0.1:{broker.nodes[0].proxied_port}"
        print(json.dumps({"direct": broker.bootstrap, "behind_the_proxy": behind}), flush=True)
        # Background jobs of a shell ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        broker.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
