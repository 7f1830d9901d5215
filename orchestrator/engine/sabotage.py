"""Switches that break the engine on purpose, so that a test can show that the oracle would notice. Never set them.

`ORCHESTRATOR_SABOTAGE` names them, separated by commas. Each names a safeguard of design.md §3-§6 that it removes.
"""

from __future__ import annotations

import os

SWITCHES = {
    "no_claim_read_back": "decide without having read one's own claim back",
    "one_lane_reinitialised": "after a failure initialise only the lane that failed, and claim nothing",
    "no_dedup": "take a command again although its answer is stored",
    "no_footer_check": "take a batch for committed without having read its footer back",
    "store_before_commit": "write RocksDB before the transaction is committed",
    "effects_before_commit": "begin steps before their schedule is committed",
    "input_ignored": "after a failure go on behind the inputs whose batch was lost",
    "lease_ignored": "take the result of any attempt, whoever holds the lease",
    "timer_early": "fire timers before they are due",
    "timer_before_report": "let a time-out win over a result that is already queued",
    "reply_before_commit": "answer before the batch is committed",
    "no_gate": "send a transaction's end before the footer before it was read back",
    "store_trusted": "trust RocksDB although the log does not have its footer",
}

_active: set[str] = set(filter(None, os.environ.get("ORCHESTRATOR_SABOTAGE", "").split(",")))
if unknown := _active - SWITCHES.keys():
    raise ValueError(f"unknown sabotage switches: {', '.join(sorted(unknown))}")


def sabotaged(switch: str) -> bool:
    """Whether a safeguard is switched off."""
    return switch in _active


def install(*switches: str) -> None:
    """Set the switches of this process, for tests within one process."""
    _active.clear()
    _active.update(switches)
