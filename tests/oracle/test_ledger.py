"""The demo's ledger over hand-made logs and receipts."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from examples.environment_audit import ledger
from examples.environment_audit.ledger import Call, Fact, Raw, committed, lines, read_receipts, settle

from .logs import NOW, SECOND, EventLog, completed, scheduled, started

NAMES = [
    "steps", "model_calls", "cut_by_kill", "cut_by_stream", "repeated_calls", "kills", "rate_limited", "tokens_saved",
    "audit", "report",
]  # fmt: skip


def facts(log: EventLog) -> list[Fact]:
    """What the ledger reads of a log."""
    return list(committed(Raw(r.partition, r.offset, r.timestamp_ms, r.key, r.value) for r in log.records))


def demo(release: bool = False) -> EventLog:
    """Two steps, the owner's end (by a kill unless `release`), two more steps."""
    log = EventLog()
    log.claim()
    log.position = 1
    log.event("RunStarted", started())
    for n in range(4):
        log.event("StepScheduled", scheduled(n))
    log.footer()
    for n in range(4):
        if n == 2:
            if release:
                log.record("PartitionReleased", {"instance": "i"})
                log.footer()
            log.event("StepCompleted", completed(3))
            log.heads["r"] = (7, log.heads["r"][1])
            take_over(log)
        log.now += SECOND
        log.event("StepCompleted", completed(n))
        log.footer()
    return log


def take_over(log: EventLog) -> None:
    """A claim by another process; what has no footer becomes void."""
    log.claim()
    index = len(log.records) - 1
    fields = ledger.io.BytesIO(log.records[index].value[10:])
    name, schema = ledger.event_schemas()[log.records[index].value[2:10]]
    assert name == "PartitionClaimed"
    claim: dict[str, Any] = dict(ledger.fastavro.schemaless_reader(fields, schema, None))
    log.records.pop()
    log.offset -= 2
    log.append("PartitionClaimed", b"\x00claim", claim | {"instance": "j"})
    log.offset += 1


def call(n: int, at_s: float, end: str = "answered", tokens: int = 10) -> Call:
    """A call for step `0:n`, `at_s` after the log's beginning."""
    return Call(f"w/r/0%3A{n}", f"step {n}", int(NOW + at_s * SECOND), end, tokens)


CALLS = [
    call(0, 0.1),
    call(1, 1.1, "rate_limited"),
    call(1, 1.2, "broke"),
    call(1, 1.3),
    call(2, 2.1, ""),
    call(2, 2.2),
    call(3, 3.1),
]


def test_the_demo_s_three_faults() -> None:
    found = settle(facts(demo()), CALLS)
    assert (found.steps, found.model_calls, found.kills, found.rate_limited) == (4, 6, 1, 1)
    assert (found.cut_by_kill, found.cut_by_stream, found.repeated_calls) == (1, 1, 0)
    assert found.tokens_saved == 20, "two results were on the log when the engine was killed"
    assert any("cut by a kill: step 2" in line for line in lines(found))


def test_an_answer_that_never_reached_the_log_is_cut_too() -> None:
    calls = [*CALLS[:4], call(2, 2.1), *CALLS[5:]]
    found = settle(facts(demo()), calls)
    assert (found.cut_by_kill, found.repeated_calls) == (1, 0)


def test_a_call_whose_result_was_on_the_log_is_repeated() -> None:
    found = settle(facts(demo()), [*CALLS, call(0, 9.0)])
    assert (found.repeated_calls, found.cut_by_kill, found.model_calls) == (1, 1, 7)
    assert any("repeated: step 0" in line for line in lines(found))


def test_a_release_is_no_kill() -> None:
    found = settle(facts(demo(release=True)), CALLS)
    assert (found.kills, found.tokens_saved) == (0, 0)


def test_without_receipts_calls_are_not_known() -> None:
    found = settle(facts(demo()), None)
    assert (found.steps, found.kills, found.model_calls, found.tokens_saved) == (4, 1, None, None)
    assert any("not known" in line for line in lines(found))


def test_the_last_line_has_exactly_the_promised_names() -> None:
    found = settle(facts(demo()), CALLS)
    found.audit, found.report = "whole", "report.html"
    assert list(json.loads(found.last_line())) == NAMES


def test_a_footer_that_does_not_cover_its_events_is_refused() -> None:
    log = demo()
    del log.records[1]
    with pytest.raises(SystemExit, match="does not cover its events"):
        facts(log)


def test_receipts_are_read_in_the_server_s_words(tmp_path: Path) -> None:
    about = {"n": 1, "key": "w/r/0%3A0", "step": "0:0", "label": "step-1", "time": NOW / 1000}
    said = [
        about | {"event": "received", "prompt_tokens": 7},
        about | {"n": 2, "event": "received", "prompt_tokens": 5},
        about | {"n": 2, "event": "holding"},
        about | {"n": 2, "event": "cut"},
        about | {"event": "answered", "completion_tokens": 3},
    ]
    path = tmp_path / "receipts.jsonl"
    path.write_text("\n".join(map(json.dumps, said)) + '\n{"event": "rec')
    assert read_receipts(path) == [
        Call("w/r/0%3A0", "step-1", NOW, "answered", 10),
        Call("w/r/0%3A0", "step-1", NOW, "", 5),
    ]


def test_the_ledger_shares_no_code_with_the_engine() -> None:
    tree = ast.parse(Path(ledger.__file__).read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.split(".")[0] in ("orchestrator", "tests", "examples", "")]
