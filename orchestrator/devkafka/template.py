"""A formatted data directory, made once and copied: formatting takes a second, copying nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from .errors import DevKafkaError
from .guard import last_error
from .java import java_environment
from .places import locked, need_space
from .runtime import Runtime
from .settings import Ports, server_properties

FORMAT_TIMEOUT_S = 120
DATA_MB = 100
IDS = re.compile(r"(?m)^(cluster\.id|node\.id|directory\.id)=.*$")


def new_id() -> str:
    """A random id as Kafka writes them: 22 letters, the first no dash (a dash starts an option)."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def formatted_template(runtime: Runtime, progress: Callable[[str], None]) -> Path:
    """The template's directory in the cache, formatted by Kafka's own tool at the first call.

    It is never written by hand: the checkpoint in it carries the versions of Kafka's features.
    """
    # A template belongs to the jars: other jars may format otherwise.
    key = hashlib.sha256(runtime.class_path.encode()).hexdigest()[:12]
    template = runtime.cache / f"template-{key}"
    if (template / "meta.properties").exists():
        return template
    busy = f"another process has been formatting Kafka's template in {runtime.cache} for minutes: end it and try again"
    with locked(runtime.cache / "template.lock", 2 * FORMAT_TIMEOUT_S, busy):
        if (template / "meta.properties").exists():
            return template
        progress("formatting Kafka's storage, once")
        need_space(runtime.cache, DATA_MB, "formatting Kafka's storage")
        shutil.rmtree(template, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=runtime.cache, prefix=".format-") as scratch:
            _format(runtime, Path(scratch))
            os.replace(Path(scratch) / "data", template)
    return template


def _format(runtime: Runtime, directory: Path) -> None:
    properties = directory / "server.properties"
    properties.write_text(server_properties(1, {1: Ports(9092, 9093)}, directory), encoding="ascii")
    (directory / "tmp").mkdir()
    tool = ["kafka.tools.StorageTool", "format", "-t", new_id(), "-c", str(properties)]
    try:
        done = subprocess.run(
            runtime.command(tool, directory),
            capture_output=True,
            text=True,
            check=False,
            timeout=FORMAT_TIMEOUT_S,
            env=java_environment(),
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise DevKafkaError(
            f"formatting Kafka's storage took over {FORMAT_TIMEOUT_S} s: is the machine busy?"
        ) from error
    if done.returncode != 0 or not (directory / "data" / "meta.properties").exists():
        said = (done.stderr or done.stdout).strip().splitlines()[-3:] or [last_error(str(directory / "kafka.log"))]
        raise DevKafkaError(f"Kafka's storage could not be formatted (exit code {done.returncode}): {' '.join(said)}")


def copy_template(template: Path, data: Path, node_id: int, cluster_id: str) -> None:
    """Make `data` the formatted directory of a new node. Copied aside first: a cut copy must not look formatted."""
    aside = data.with_name(data.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(template, aside)
    meta = aside / "meta.properties"
    ids = {"cluster.id": cluster_id, "node.id": str(node_id), "directory.id": new_id()}
    meta.write_text(IDS.sub(lambda found: f"{found[1]}={ids[found[1]]}", meta.read_text()), encoding="ascii")
    os.replace(aside, data)
