"""Declaring limits: what is wrong is said where it is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import ConfigurationError, Orchestrator
from orchestrator.sdk.limits import Limit, needs_of

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give it concurrency, rate"),
        ({"concurrency": 0}, "at least 1"),
        ({"rate": (0, "minute")}, "a number and a period"),
        ({"rate": (5, "fortnight")}, "a number and a period"),
        ({"rate": 5}, "a number and a period"),
        ({"rate": (5, "minute"), "throttle": (5, "minute")}, "choose one"),
        ({"singleton": "maybe"}, "skip or cancel"),
        ({"singleton": "skip", "concurrency": 2}, "choose one"),
        ({"concurrency": 1, "strategy": "drop"}, "strategy is one of"),
        ({"concurrency": 1, "strategy": "round_robin"}, "fairness"),
        ({"rate": (5, "minute"), "strategy": "cancel_oldest"}, "makes room"),
        ({"concurrency": 1, "speed": 3}, "no option 'speed'"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Orchestrator("shop").limit("x", **given)


def test_limits_of_a_step_fit_together() -> None:
    app = Orchestrator("shop")
    one, other = app.limit("one", concurrency=1), app.limit("other", concurrency=1, group="apart")
    drops = app.limit("drops", singleton="skip")

    async def fn(tenant: str) -> None: ...

    for limits, said in (([one, other], "one group"), ([one, one], "twice"), ([drops], "gives runs up"), ([1], "list")):
        with pytest.raises(ConfigurationError, match=said):
            app.step(limits=limits)(fn)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="declared twice"):
        app.limit("one", concurrency=2)
    with pytest.raises(ConfigurationError, match="priority"):
        app.step(limits=[one], priority=2_000_000)(fn)


def test_a_throttle_is_a_rate_of_one() -> None:
    need = Orchestrator("shop").limit("x", throttle=(100, "minute")).need
    assert (need.rate, need.rate_ms) == (1, 600)


def test_keys_come_from_the_arguments() -> None:
    def fn(tenant: str, *, model: str = "small") -> None: ...

    def key_of(key: Any) -> str:
        return needs_of((Limit("x", {"concurrency": 1, "key": key}),), fn, ("acme",), {}, 0)[0].key

    assert key_of("tenant") == "acme"
    assert key_of("model") == "small"
    assert key_of(lambda tenant, **_: tenant.upper()) == "ACME"
    with pytest.raises(ConfigurationError, match="no parameter"):
        key_of("colour")
    with pytest.raises(ConfigurationError, match="256"):
        key_of(lambda tenant: "x" * 300)
