"""I10: an independent model, the log, the state and the API agree on totals."""

from __future__ import annotations

import json
from collections import Counter

from orchestrator.core import commands as c
from orchestrator.core.rows import RUNS, RunRow
from tests.invariants.load import Load
from tests.oracle.oracle import Expected


def test_i10_model_log_state_and_api_agree(load: Load) -> None:
    load.fail_commits(seed=10)
    engine = load.engine()
    load.run()
    load.start("asleep", load.naps, 1, 3_600_000)
    load.start("gone", load.naps, 1, 3_600_000)
    load.accepted("gone", c.TerminateWorkflow())
    load.start("broken", load.breaks)
    assert load.outcome("broken").code == "failed"
    load.expected["asleep"] = Expected(status="running")
    load.expected["gone"] = Expected(status="terminated")
    load.expected["broken"] = Expected(status="failed")
    load.heal()
    api: Counter[str] = Counter()
    for number in range(load.site.partitions):
        answer = load.answers(load.send("", c.QueryWorkflow("list"), partition=number))[0]
        api.update(run["status"] for run in json.loads(answer.result.data)["runs"])
    engine.stop(1.0)
    model = Counter(expected.status for expected in load.expected.values())
    state = Counter(
        row.status for store in load.stores.values() for _, row in store.scan(RUNS, ()) if isinstance(row, RunRow)
    )
    totals = load.judge()
    log = Counter({status: totals[status] for status in model if totals[status]})
    log["running"] = totals["runs"] - sum(count for status, count in log.items() if status != "running")
    assert model == state == api == log
    steps = sum(expected.steps or 0 for expected in load.expected.values())
    done = [row.steps_done for s in load.stores.values() for _, row in s.scan(RUNS, ()) if isinstance(row, RunRow)]
    # The broken step has an end, but no result that a run can count.
    assert totals["step_results"] - 1 == sum(done) == steps
