"""Build the wheel and use it from an empty environment outside the checkout: `python tests/packaging/smoke.py DIR`."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import smoke_dev

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import importlib.metadata, importlib.util, json
import orchestrator
from orchestrator.codec import schemas
print(json.dumps({
    "version": importlib.metadata.version("durable-orchestrator"),
    "file": orchestrator.__file__,
    "schemas": len(schemas.all_schemas()),
    "extras": [name for name in ("jgo", "openai", "starlette") if importlib.util.find_spec(name)],
}))
"""


def run(*command: object, cwd: Path) -> str:
    """Run a command to its end and return what it printed; its failure ends the smoke test with its output."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"smoke: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(into: Path) -> Path:
    """The wheel, built from the source archive by the backend of the lock (nothing is fetched)."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", into, ROOT, cwd=into)
    (wheel,) = into.glob("*.whl")
    return wheel


def files_of(folder: str) -> list[Path]:
    """The files below `folder` that somebody wrote: no caches."""
    found = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in found if not any(part == "__pycache__" or "_cache" in part for part in path.parts)]


def check_contents(wheel: Path) -> None:
    """One top-level package with every file of the checkout's (locks and properties too), all schemas, no waste."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    packages = {name for name in tops if not name.endswith(".dist-info")}
    assert packages == {"orchestrator"}, f"the wheel installs {packages}"
    wanted = ["orchestrator/" + path.relative_to(ROOT).as_posix() for path in files_of("schemas")]
    wanted += [path.relative_to(ROOT).as_posix() for path in files_of("orchestrator")]
    missing = sorted(set(wanted) - set(names))
    assert not missing, f"not in the wheel: {missing}"
    forbidden = [name for name in names if "__pycache__" in name or name.endswith(".pyc") or "ruff_cache" in name]
    assert not forbidden, forbidden


def main() -> None:
    """Build, look inside, install, use."""
    scratch = Path(sys.argv[1]).resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    wheel = build(scratch)
    check_contents(wheel)
    home = scratch / "env"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "-r", ROOT / "requirements" / "base.txt", cwd=scratch)
    run(*pip, "--no-deps", "--no-index", wheel, cwd=scratch)
    seen = json.loads(run(python, "-c", PROGRAM, cwd=scratch))
    assert Path(seen["file"]).is_relative_to(home), f"imported from {seen['file']}, not from the wheel"
    assert seen["schemas"] == len(list((ROOT / "schemas").rglob("*.avsc"))), seen
    assert not seen["extras"], f"the base install brought extras: {seen['extras']}"
    run(home / "bin" / "orchestrator", "--help", cwd=scratch)
    run(*pip, "--require-hashes", "-r", ROOT / "requirements" / "demo.txt", cwd=scratch)
    result = smoke_dev.use(home / "bin" / "orchestrator", scratch / "shop")
    assert "42" in result.split(), f"the workflow's result is 42, not {result}"
    print(f"smoke: {wheel.name} works outside the checkout: {seen['schemas']} schemas, `orchestrator dev`, a workflow")


if __name__ == "__main__":
    main()
