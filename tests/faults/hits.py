"""Which runs each death of a campaign met: those of the last batch that the dead process wrote to each partition.

Read from the raw topic, with what was never committed: a batch that was open at a death is there too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.codec.records import Codec
from orchestrator.core import events as e
from tests.oracle.raw import RawRecord

Run = tuple[str, str]
"""Workflow and run id."""


def runs_met(records: Mapping[int, Sequence[RawRecord]], codec: Codec, dead: Iterable[int]) -> dict[int, set[Run]]:
    """By process id, the runs in the last batches of each dead process; none where it wrote nothing but claims."""
    found: dict[int, set[Run]] = {pid: set() for pid in dead}
    for part in records.values():
        for pid, runs in _last_batches(part, codec).items():
            found.get(pid, set()).update(runs)
    return found


def _last_batches(records: Sequence[RawRecord], codec: Codec) -> dict[int, set[Run]]:
    """By process id, the runs of the last batch of a partition that has any."""
    owners: dict[int, int] = {}
    batches: dict[int, dict[tuple[int, int], set[Run]]] = defaultdict(lambda: defaultdict(set))
    for raw in records:
        event = codec.decode_event(raw.key, raw.value).event
        if isinstance(event.body, e.PartitionClaimed):
            owners[event.claim_no] = event.body.pid
        elif event.workflow_id and event.claim_no in owners:
            batches[owners[event.claim_no]][event.claim_no, event.batch_no].add((event.workflow_id, event.run_id))
    return {pid: found[max(found)] for pid, found in batches.items()}


def different(met: Sequence[set[Run]]) -> int:
    """The largest number of deaths of which each can be given a run of its own among those that it met."""
    given: dict[Run, int] = {}

    def give(death: int, seen: set[Run]) -> bool:
        for run in met[death] - seen:
            seen.add(run)
            if run not in given or give(given[run], seen):
                given[run] = death
                return True
        return False

    return sum(give(death, set()) for death in range(len(met)))
