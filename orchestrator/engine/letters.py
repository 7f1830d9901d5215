"""What cannot be taken in, and what cannot be sent: neither ends more than it must."""

from __future__ import annotations

import logging

from ..core.decide.decision import Draft, View
from ..core.events import ChildFailed, DeadLettered, SendFailed, StepFailed
from ..core.rows import STEPS, ChildRow, StepRow, step_key
from ..core.values import Cause, Failure
from ..log.ports import Wire
from .large import KEPT_BYTES, KEPT_LETTERS, original
from .options import EngineOptions
from .outbox import Unsent

log = logging.getLogger(__name__)


def dead_letter(wire: Wire, reason: str, options: EngineOptions) -> Draft:
    """Input that no run can take: its bytes and the reason are an event before the position moves on."""
    where = (wire.topic, wire.partition, wire.offset)
    value, cut = original(wire.value, options)
    reason = f"{reason[:KEPT_LETTERS]}{cut}"
    log.warning("%s/%d offset %d goes to the dead letters: %s", *where, reason)
    letter = DeadLettered(*where, reason, wire.key[:KEPT_BYTES], value)
    return Draft("", "", letter, Cause("", *where))


def undeliverable(view: View, app: str, unsent: Unsent) -> list[Draft]:
    """A record that can never be sent ends its step or child alone."""
    row = unsent.row
    where = f"{app}.{row.topic}"
    log.error("%s: a record for %s cannot be sent: %s", row.workflow_id or "?", where, unsent.reason)
    name = "/".join(map(str, unsent.key))
    drafts = [Draft(row.workflow_id, row.run_id, SendFailed(name, row.topic, unsent.reason, row.step))]
    pending = view.get(STEPS, step_key(row.workflow_id, row.run_id, row.step)) if row.step else None
    failure = Failure("SendFailed", f"{where}: {unsent.reason}", retryable=False)
    if isinstance(pending, StepRow):
        drafts.append(Draft(row.workflow_id, row.run_id, StepFailed(row.step, pending.attempt, failure)))
    elif isinstance(pending, ChildRow):
        drafts.append(Draft(row.workflow_id, row.run_id, ChildFailed(row.step, "rejected", failure)))
    return drafts
