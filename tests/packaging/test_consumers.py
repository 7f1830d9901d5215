"""Each deployable hands its arguments to `orchestrator <name> run` and its exit code back."""

from __future__ import annotations

import runpy

import pytest

from tests.architecture.source import ROOT, name_of, python_files


@pytest.mark.parametrize("path", [name_of(path) for path in python_files("consumers")])
def test_the_consumer_runs_the_command_of_its_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def main(argv: list[str], *, whole_process: bool) -> int:
        assert whole_process
        seen.append(argv)
        return 7

    monkeypatch.setattr("orchestrator.cli.main.main", main)
    monkeypatch.setattr("sys.argv", [path, "--grace", "5"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / path), run_name="__main__")
    name = path.removeprefix("consumers/").removesuffix(".py")
    assert seen == [[name, "run", "--grace", "5"]]
    assert ended.value.code == 7
