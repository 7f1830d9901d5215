"""What every broker process of this machine shares: Java, jars, flags, the AOT cache's place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from orchestrator.open_files import raise_open_files

from .jars import class_path, fetch_jars
from .java import FLAGS, find_java
from .places import cache_directory


class Runtime(NamedTuple):
    """Ready to start brokers. `aot_cache` may not exist yet: then they start without it, a second slower."""

    cache: Path
    java: Path
    class_path: str
    log4j: Path
    aot_cache: Path

    @classmethod
    def prepare(cls, progress: Callable[[str], None] | None = None) -> Runtime:
        """Find Java, fetch the jars if need be. Raises DevKafkaError."""
        raise_open_files()
        java = find_java()
        cache = cache_directory()
        jars = fetch_jars(cache, progress=progress)
        words = f"{java.fingerprint} {jars}"
        return cls(
            cache=cache,
            java=java.command,
            class_path=class_path(jars),
            log4j=Path(str(resources.files(__package__).joinpath("log4j2.properties"))),
            aot_cache=cache / f"kafka-{hashlib.sha256(words.encode()).hexdigest()[:12]}.aot",
        )

    def command(self, main: Sequence[str], directory: Path, flags: Sequence[str] = ()) -> list[str]:
        """The command line of a Java program whose log, crash report and temporary files lie in `directory`."""
        return [
            str(self.java),
            *FLAGS,
            *flags,
            f"-XX:ErrorFile={directory / 'crash.log'}",
            f"-Djava.io.tmpdir={directory / 'tmp'}",
            f"-Dkafka.log={directory / 'kafka.log'}",
            f"-Dlog4j2.configurationFile={self.log4j}",
            "-cp",
            self.class_path,
            *main,
        ]
