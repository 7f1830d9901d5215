"""What random histories found, as small as it became: each course is laid down move by move."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.codec.records import Codec
from orchestrator.core import commands as c
from orchestrator.core.rows import RUNS, STEPS, UPDATES, RunRow, StepRow
from orchestrator.core.values import Payload
from orchestrator.engine.options import EngineOptions
from tests.property.interpreter import interpret
from tests.property.programs import Node
from tests.property.world import NEVER_MS, HashedStore, ManualClock, Process, as_command, make_cluster, outcome_of, send

CODEC = Codec()
APP = "property"
PATIENCE = 100
STEP: Node = ["step", 1, 0, "ok", "try"]


class Scene:
    """One partition, one process at a time."""

    def __init__(self, **options: Any) -> None:
        self.cluster = make_cluster(APP, 1)
        self.notes: dict[int, str] = {}
        self.stores = {0: HashedStore(CODEC, {})}
        self.options = EngineOptions(batch_ms=10**9, retention_ms=NEVER_MS, **options)
        self.started = 0
        self.next_process()

    def next_process(self) -> None:
        """The owner is gone without a word, another claims."""
        if self.started:
            self.process.die()
        self.started += 1
        options = EngineOptions(**{**self.options.__dict__, "instance": f"process-{self.started}"})
        self.process = Process(self.cluster, APP, self.notes, self.stores, ManualClock(), options, CODEC)
        self.process.claim(0)

    def send(self, name: str, body: c.TopicCommand) -> None:
        """A command on the topic, and in the owner's hands."""
        send(self.cluster, APP, "w", CODEC.encode_command(c.Command(name, "w", body)))
        self.process.log.inputs().pump(0)

    def settle(self) -> None:
        """Cycle until the loop waits; fails when it never does."""
        loop = self.process.loops[0]
        for _ in range(PATIENCE):
            if not loop._has_input() and loop._unproven is None:
                return
            if loop._has_input():
                loop.cycle()
            else:
                loop._prove_and_materialise()
        raise AssertionError(f"{PATIENCE} cycles, and there is still something to do: {loop.builder.careful.__dict__}")

    def end_steps(self) -> None:
        """Every attempt that runs comes to its end."""
        for token in list(self.process.executor.calls):
            self.process.loops[0].inbox.put_report(self.process.executor.end(token, obeys=True))

    def step(self) -> StepRow:
        """The only pending step."""
        rows = [row for _, row in self.process.loops[0].ground.overlay.scan(STEPS, ()) if isinstance(row, StepRow)]
        assert len(rows) == 1
        return rows[0]

    def run(self) -> RunRow:
        """The head of the only run."""
        rows = [row for _, row in self.process.loops[0].ground.overlay.scan(RUNS, ()) if isinstance(row, RunRow)]
        assert len(rows) == 1
        return rows[0]


def test_a_run_that_is_terminated_while_its_turn_in_doubt_replays_does_not_hold_up_careful_mode() -> None:
    scene = Scene(replay_slice=1)
    program = ["seq", [STEP, STEP, STEP, STEP]]
    scene.send("start", c.StartWorkflow("interpret", interpret.code.signature.bind((program, ""), {})))
    scene.settle()
    for _ in range(2):
        scene.end_steps()
        scene.settle()
    scene.next_process()
    scene.settle()
    scene.end_steps()
    loop = scene.process.loops[0]
    while loop.builder.careful.attempted is None:
        loop.cycle()
    scene.send("terminate", c.TerminateWorkflow())
    scene.settle()
    assert scene.run().status == "terminated"
    scene.process.die()


def test_a_step_that_waits_for_its_retry_is_not_handed_over() -> None:
    """The owner before told how the attempt ended, by command; the same attempt, begun again here, runs still."""
    scene = Scene()
    program: Node = ["step", 1, 1, "ok", "try"]
    scene.send("start", c.StartWorkflow("interpret", interpret.code.signature.bind((program, ""), {})))
    scene.settle()
    call = next(iter(scene.process.executor.calls.values()))
    scene.next_process()
    scene.settle()
    scene.send("late", as_command(outcome_of(call)))
    scene.settle()
    assert scene.step().state == "backoff"
    assert scene.process.executor.running() == {call.token}
    scene.process.loops[0].hand_over()
    scene.next_process()
    assert scene.step().state == "backoff"
    scene.process.die()


def test_an_update_that_finds_its_run_going_on_as_a_new_one_is_judged_by_that() -> None:
    """The run owes a turn, still to be replayed, and continues as new in it: the validator of the next run decides."""
    scene = Scene(replay_slice=1, evict_after_turn=True)
    steps: list[Node] = [STEP] * 2
    program: Node = ["again", ["seq", steps], ["sleep", 1_000]]
    scene.send("start", c.StartWorkflow("interpret", interpret.code.signature.bind((program, ""), {})))
    scene.settle()
    loop = scene.process.loops[0]
    for _ in steps[1:]:
        scene.end_steps()
        scene.settle()
    scene.end_steps()
    for number in (-2, 1):
        payload = json.dumps([number, ["sleep", 1]]).encode()
        scene.send(f"update {number}", c.UpdateWorkflow("put", Payload(data=payload)))
    scene.settle()
    first, second = sorted(
        (row for _, row in loop.ground.overlay.scan(RUNS, ()) if isinstance(row, RunRow)), key=lambda row: row.status
    )
    assert (first.status, second.status) == ("continued_as_new", "running")
    found = [str(key[2]) for key, _ in loop.ground.overlay.scan(UPDATES, ())]
    assert found == ["update 1"], found
    scene.process.die()
