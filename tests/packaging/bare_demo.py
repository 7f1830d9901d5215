"""The README's first command on a bare machine: `python -m tests.packaging.bare_demo DIR`.

A fresh copy of the checkout, no state directory, and a PATH with nothing on it but Python, make, a shell and what a
shell needs: no Java, no Maven, no Docker. Downloads already in the cache stay.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from tests.architecture.source import ROOT, tracked

TOOLS = ("bash", "sh", "env", "make", "awk", "rm", "mkdir")
ABSENT = ("java", "javac", "mvn", "docker", "git", "uv")
MOST_S = 600


def bare_path(folder: Path) -> str:
    """A directory of links to the few programs that the README asks for."""
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    # By its own path: a link to a virtual environment's interpreter would no longer know its environment.
    (folder / "python3").write_text(f'#!/bin/sh\nexec "{os.path.realpath(sys.executable)}" "$@"\n', encoding="utf-8")
    (folder / "python3").chmod(0o755)
    assert not [name for name in ABSENT if shutil.which(name, path=str(folder))]
    return str(folder)


def left_over(home: Path) -> list[str]:
    """Processes that were started from the clone and still run."""
    found = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in found if str(home) in line and "bare_demo" not in line]


def main() -> None:
    """Clone, run, look at what it says and leaves."""
    scratch = Path(sys.argv[1]).resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    home = scratch / "clone"
    for path in tracked():
        copy = home / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    kept = ("HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "ORCHESTRATOR_CACHE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    environment = {name: value for name, value in os.environ.items() if name in kept or name.startswith("PIP_")}
    environment["PATH"] = bare_path(scratch / "bin")
    done = subprocess.run(
        [shutil.which("make") or "make", "demo"],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=MOST_S,
        stdin=subprocess.DEVNULL,
    )
    said = f"{done.stdout}{done.stderr}"
    if done.returncode != 0:
        sys.exit(f"bare demo: make demo ended with {done.returncode}:\n{said}")
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["steps"] >= 45, last
    assert last["kills"] == 1, last
    assert last["rate_limited"] >= 1, last
    assert last["cut_by_kill"] <= 1, last
    assert last["cut_by_stream"] == 1, last
    assert last["repeated_calls"] == 0, last
    assert not left_over(home), left_over(home)
    print(f"bare demo: make demo with {', '.join(TOOLS)} and python3 alone: {json.dumps(last)}")


if __name__ == "__main__":
    main()
