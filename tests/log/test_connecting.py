"""An offset that no broker gave is not taken for one."""

from __future__ import annotations

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaException

from orchestrator.log.connecting import known


def test_an_answer_that_came_too_late_is_no_offset() -> None:
    """Seen behind a proxy that holds an answer for longer than the client waits: (-1001, -1001), and no error."""
    assert [known(offset) for offset in (0, 7)] == [0, 7]
    with pytest.raises(KafkaException, match="no broker gave an offset"):
        known(OFFSET_INVALID)
