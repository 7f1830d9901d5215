"""The tables are complete: every event is applied, every command decided, every timer fired; schemas have classes."""

from __future__ import annotations

import ast
import typing
from pathlib import Path

import pytest

from orchestrator.codec import schemas
from orchestrator.codec.records import _classes
from orchestrator.core import commands as c, events as e, machine
from orchestrator.core.decide.turn import DECIDE_TURN, in_order
from orchestrator.core.values import Failure, Payload

CORE = Path(machine.__file__).parent
EVENT_HEAD = ("workflow_id", "run_id", "seq", "cause", "recorded_at_ms", "claim_no", "batch_no", "batch_index")
EVENT_HEAD += ("prev_hash", "trace", "original_ms")
COMMAND_HEAD = tuple(name for name in c.Command._fields if name != "body")


def test_every_event_has_its_apply() -> None:
    run, partition = set(typing.get_args(e.RunBody)), set(typing.get_args(e.PartitionBody))
    assert set(machine.APPLY_RUN) | {e.RunStarted} == run
    assert set(machine.APPLY_PARTITION) | {e.BatchFooter} == partition
    assert not run & partition


def test_every_command_has_its_decide() -> None:
    assert set(machine.DECIDE) | {c.QueryWorkflow} == set(typing.get_args(c.TopicCommand))
    assert set(DECIDE_TURN) == set(typing.get_args(c.TurnCommand))


def test_no_two_events_share_an_apply() -> None:
    functions = list(machine.APPLY_RUN.values())
    assert len(set(functions)) == len(functions)


def test_every_timer_that_apply_sets_has_its_fire() -> None:
    kinds = set()
    for path in CORE.glob("apply/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "set_timer"
            )
            if named and isinstance(node.args[0], ast.Constant):
                kinds.add(node.args[0].value)
    assert kinds, "no timer is set anywhere: this test would check nothing"
    assert kinds <= set(machine.FIRE)
    assert set(machine.FIRE) >= machine.SILENCE


@pytest.mark.parametrize("schema", schemas.all_schemas(), ids=lambda schema: f"{schema.kind}/{schema.name}")
def test_a_schema_s_fields_are_its_class_s(schema: schemas.Schema) -> None:
    cls = _classes()[schema.kind, schema.name]
    head = {"events": EVENT_HEAD, "commands": COMMAND_HEAD}.get(schema.kind, ())
    newest = max(one.version for one in schemas.all_schemas() if (one.kind, one.name) == (schema.kind, schema.name))
    if schema.version == newest:
        assert sorted(schema.fields) == sorted((*head, *cls._fields))
    else:
        assert set(schema.fields) <= {*head, *cls._fields}


def test_every_class_has_its_schema() -> None:
    known = {(schema.kind, schema.name) for schema in schemas.all_schemas()}
    assert known == set(_classes())


def test_terminal_and_deliverable_events_belong_to_runs() -> None:
    assert set(e.TERMINAL) | set(e.DELIVERABLE) <= set(typing.get_args(e.RunBody))
    assert not set(e.TERMINAL) & set(e.DELIVERABLE)


@pytest.mark.parametrize("end", [c.CompleteRun(Payload()), c.FailRun(Failure("E", "m")), c.CancelRun()])
def test_the_end_of_a_run_is_its_turn_s_last_command(end: c.TurnCommand) -> None:
    timer = c.SetTimer("0", 1, 5, "f")
    assert in_order([end, timer]) == [timer, end]
