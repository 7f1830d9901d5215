"""I7: after faults have healed no transaction stays open."""

from __future__ import annotations

import pytest

from tests.invariants.load import Load

pytestmark = pytest.mark.slow


def test_i7_after_faults_no_transaction_stays_open(load: Load) -> None:
    # An owner that died between produce and commit leaves one.
    log = load.site.log(load.app.name)
    lanes = log.lanes(0)
    lanes.init()
    lanes.begin([(b"key", b"a dead owner's record")])
    assert load.site.open_transactions(f"{load.app.name}.events") == [0]
    load.fail_commits(seed=7, rate=0.15)
    engine = load.engine()
    load.run()
    load.heal()
    load.run(2)
    engine.stop(1.0)
    assert load.site.open_transactions(f"{load.app.name}.events") == []
    lanes.close()
    log.close()
