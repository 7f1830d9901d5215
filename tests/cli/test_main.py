"""The command line's root: what it lists, how fast, and how errors become sentences and codes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import errors
from orchestrator.cli import exits, session
from orchestrator.cli.root import Root, root
from orchestrator.log.ports import TopicIds
from tests.cli.conftest import Ran
from tests.client.fake_engine import FakeEngine, FakeTransport

Run = Callable[..., Ran]


def test_every_noun_can_be_imported() -> None:
    commands = [name for name, later in Root.later.items() if later.is_there()]
    assert {"workflow", "step", "engine", "worker", "completion"} <= set(commands)
    for name in commands:
        assert Root.later[name].load().name == name


def test_help_imports_no_noun() -> None:
    program = (
        "import sys; from orchestrator.cli.main import main; code = main(['--help']);"
        "loaded = [n for n in sys.modules if n in ('fastavro', 'confluent_kafka', 'orchestrator.cli.workflow')];"
        "sys.exit(f'{code} {loaded}' if code or 'orchestrator.cli.workflow' in loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "workflow" in done.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.WorkflowNotFound("x"), 3),
        (errors.RunClosed("x"), 3),
        (errors.WorkflowAlreadyRunning("x"), 5),
        (errors.CommandRejected("x"), 5),
        (errors.ReplyTimeout("x"), 4),
        (errors.KafkaUnavailable("x"), 6),
        (errors.RegistryUnavailable("x"), 6),
        (errors.ConfigurationError("x"), 2),
        (errors.RunParked("x"), 1),
        (errors.LogGap("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_errors_have_codes(error: Exception, code: int) -> None:
    assert exits.code_of(error) == code


def test_an_error_is_one_sentence_and_a_traceback_only_with_debug(
    engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kafka(app: str, settings: object) -> FakeTransport:
        raise errors.KafkaUnavailable("127.0.0.1:1 does not answer:\n is Kafka running?")

    monkeypatch.setattr(session, "open_transport", no_kafka)
    ran = run("workflow", "show", "x")
    assert (ran.code, ran.err) == (6, "error: 127.0.0.1:1 does not answer: is Kafka running?\n")
    ran = run("--debug", "workflow", "show", "x")
    assert ran.code == 6
    assert "Traceback" in ran.err


def test_ctrl_c_is_130(engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(app: str, settings: object) -> FakeTransport:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "open_transport", interrupted)
    ran = run("workflow", "show", "x")
    assert (ran.code, ran.err.strip()) == (130, "interrupted")


def test_no_application_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATOR_APP", raising=False)
    monkeypatch.delenv("ORCHESTRATOR_APP_NAME", raising=False)
    ran = run("workflow", "show", "x")
    assert ran.code == 2
    assert "ORCHESTRATOR_APP" in ran.err


def test_a_wrong_word_is_usage(run: Run) -> None:
    ran = run("workflw")
    assert ran.code == 2
    assert "No such command" in ran.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert "_ORCHESTRATOR_COMPLETE" in ran.out


def test_completion_completes(tmp_path: Path) -> None:
    environment = {
        "_ORCHESTRATOR_COMPLETE": "bash_complete",
        "COMP_WORDS": "orchestrator workflow sh",
        "COMP_CWORD": "2",
    }
    program = "from orchestrator.cli.main import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["plain,show"], done.stderr


def test_every_command_of_a_program_prints_three_ways() -> None:
    quiet = {"run", "completion", "dev", "debug"}
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"have no `-o`.*?\n(?=`workflow history)", page, re.DOTALL)
    assert set(re.findall(r"`(?:workflow )?(run|completion|dev|debug)`", said)) == quiet
    missing = []
    for name, later in Root.later.items():
        if not later.is_there() or name == "kafka":
            continue
        command = later.load()
        leaves = getattr(command, "commands", {name: command})
        missing += [
            f"{name} {leaf}"
            for leaf, inner in leaves.items()
            if leaf not in quiet and not any(option.name == "output" for option in inner.params)
        ]
    assert missing == []
    assert root.name == "root"


def test_the_reference_lists_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    missing = []
    for name, later in Root.later.items():
        if not later.is_there():
            continue
        command = later.load()
        for leaf in getattr(command, "commands", {"": command}):
            shown = f"{name} {leaf}".strip()
            if f"`{shown}" not in page and f"`{leaf}`" not in page:
                missing.append(shown)
    assert missing == []


@pytest.mark.parametrize("command", [("partition", "repair", "16"), ("audit", "verify", "--partition", "16")])
def test_a_partition_that_is_not_there_is_named_at_once(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("orchestrator.cli.topics.partition_count", lambda config, name: 16)
    monkeypatch.setattr("orchestrator.cli.audit.topic_ids", lambda config, auditing: TopicIds("c", "1", "2", 16))
    ran = run("--app-name", "shop", *command)
    assert (ran.code, ran.err) == (2, "error: shop has no partition 16: it has 0 to 15\n")


def test_dev_names_a_wrong_application_before_anything_starts(run: Callable[..., Ran]) -> None:
    ran = run("dev", "no_such_module:app")
    assert ran.code == 2
    assert "no module 'no_such_module'" in ran.err
    assert "Kafka" not in ran.err


def test_a_reader_that_has_enough_is_no_failure() -> None:
    script = (
        "import click, sys\n"
        "from orchestrator.cli import main, root\n"
        "@root.root.command()\n"
        "def flood():\n"
        "    for _ in range(100_000): click.echo('x' * 100)\n"
        "sys.exit(main.main(['flood']))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    with writer, writer.stderr:
        writer.stdout.readline()
        writer.stdout.close()
        assert writer.stderr.read() == b""
    assert writer.returncode == exits.OK


def test_another_broken_pipe_is_an_error(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("orchestrator.cli.completion.get_completion_class", broken)
    ran = run("completion", "bash")
    assert ran.code == exits.FAILED
    assert "went away" in ran.err
