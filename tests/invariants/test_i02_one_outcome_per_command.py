"""I2: every accepted command has exactly one outcome; nothing follows a terminal event in a run's history."""

from __future__ import annotations

from collections import Counter

from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from tests.invariants.load import Load


def test_i2_every_command_has_one_outcome_and_nothing_follows_the_end(load: Load) -> None:
    load.fail_commits(seed=2)
    engine = load.engine()
    sent: list[str] = []
    arguments = load.work.code.signature.bind((1,), {})
    for number in range(4):
        workflow = f"w{number}"
        for body in (c.StartWorkflow("work", arguments), *(c.SignalWorkflow("go", Payload(data=b"1")),) * 2):
            command_id = f"{workflow}/{len(sent)}"
            for _ in range(3):
                load.send(workflow, body, command_id)
            sent.append(command_id)
        load.result(workflow)
    for body in (c.SignalWorkflow("go"), c.CancelWorkflow(), c.TerminateWorkflow(), c.StartWorkflow("work", arguments)):
        for _ in range(2):
            load.send("w0", body, f"late/{type(body).__name__}")
        sent.append(f"late/{type(body).__name__}")
    answers = {command_id: load.answers(command_id)[0] for command_id in sent}
    load.ask("w0", c.TerminateWorkflow())
    load.heal()
    engine.stop(1.0)
    outcomes = Counter(event.cause.command_id for event in load.events() if event.cause.answers)
    assert {command_id: outcomes[command_id] for command_id in sent} == dict.fromkeys(sent, 1)
    for command_id in sent:
        assert set(load.answers(command_id)) == {answers[command_id]}
    histories: dict[str, list[e.Event]] = {}
    for event in load.events():
        if event.seq:
            histories.setdefault(event.run_id, []).append(event)
    ended = [[isinstance(event.body, e.TERMINAL) for event in history] for history in histories.values()]
    assert all(kinds.index(True) == len(kinds) - 1 for kinds in ended)
    assert len(ended) == 5
    load.judge()
