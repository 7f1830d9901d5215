"""Every step through a task queue, whatever the code says: for the modes in which steps run elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from orchestrator.core.values import StepOptions
from orchestrator.sdk.calls import StepCalled

QUEUE = "contract"


@contextlib.contextmanager
def every_step_queued() -> Iterator[None]:
    """A step without a queue of its own goes to `QUEUE`."""
    make = StepCalled.__init__

    def with_queue(call: Any, loop: Any, code: Any, arguments: Any, options: StepOptions) -> None:
        make(call, loop, code, arguments, options if options.queue else options._replace(queue=QUEUE))

    with mock.patch.object(StepCalled, "__init__", with_queue):
        yield
