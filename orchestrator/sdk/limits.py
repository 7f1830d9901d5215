"""Limits as code declares them: how many at once, how many in a while, and what becomes of those that are too many."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, TypedDict

from ..core.limit_rows import HIGHEST_PRIORITY
from ..core.values import LimitNeed
from ..errors import ConfigurationError

Period = Literal["second", "minute", "hour", "day"] | timedelta
Key = str | Callable[..., object]
Strategy = Literal["queue", "cancel_oldest", "cancel_newest", "round_robin"]

PERIODS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
STRATEGIES = ("queue", "cancel_oldest", "cancel_newest", "round_robin")
SINGLETONS = {"skip": "cancel_newest", "cancel": "cancel_oldest"}
MAX_KEY = 256


class LimitOptions(TypedDict, total=False):
    """What a limit says.

    `concurrency` at once; `rate` begins in any period (a sliding window); `throttle`: the same, evenly spaced.
    `debounce`: a begin waits until nobody asked for so long, the newest wins; with a second duration, at the latest so
    long after the first. `singleton`: one at a time, and a second one is given up (`skip`) or cancels the first
    (`cancel`). Each counts for every value of `key` by itself: a parameter's name, or a function of the arguments.
    `strategy` says what happens when `concurrency` or `rate` is reached; `round_robin` takes turns over `fairness`.
    Limits of one step or workflow belong to one `group`: their state lies in one partition.
    """

    concurrency: int
    rate: tuple[int, Period]
    throttle: tuple[int, Period]
    debounce: timedelta | tuple[timedelta, timedelta]
    singleton: Literal["skip", "cancel"]
    key: Key
    fairness: Key
    strategy: Strategy
    group: str


class Limit:
    """A declared limit: given to `@app.step(limits=[...])` and `@app.workflow(limits=[...])`."""

    def __init__(self, name: str, given: LimitOptions) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
            raise ConfigurationError(f"limit {name!r}: use letters, digits, hyphens, dots and underscores")
        unknown = given.keys() - LimitOptions.__annotations__.keys()
        if unknown:
            raise ConfigurationError(f"limit {name}: there is no option {min(unknown)!r}")
        self.name = name
        self.key = given.get("key", "")
        self.fairness = given.get("fairness", "")
        self.need = _need(name, given)
        if self.need.strategy == "round_robin" and not self.fairness:
            raise ConfigurationError(f"limit {name}: round_robin takes turns over `fairness`; name a parameter")
        if not (self.need.concurrency or self.need.rate or self.need.debounce_ms):
            raise ConfigurationError(f"limit {name}: give it concurrency, rate, throttle, debounce or singleton")

    @property
    def gives_up(self) -> bool:
        """Whether it ends what is too many: only a run can be ended, no single step."""
        return self.need.strategy.startswith("cancel_") or self.need.debounce_ms > 0


def _need(name: str, given: LimitOptions) -> LimitNeed:
    if "rate" in given and "throttle" in given:
        raise ConfigurationError(f"limit {name}: rate and throttle are two ways to say one thing; choose one")
    if "singleton" in given and ("concurrency" in given or "strategy" in given):
        raise ConfigurationError(f"limit {name}: singleton is concurrency=1 with a strategy; choose one")
    rate, rate_ms = _rate(name, "rate", given["rate"]) if "rate" in given else (0, 0)
    if "throttle" in given:
        count, period_ms = _rate(name, "throttle", given["throttle"])
        rate, rate_ms = 1, -(-period_ms // count)
    debounce = given.get("debounce", timedelta())
    first, longest = debounce if isinstance(debounce, tuple) else (debounce, timedelta())
    strategy: str = given.get("strategy", "queue")
    concurrency = given.get("concurrency", 0)
    if "singleton" in given:
        if given["singleton"] not in SINGLETONS:
            raise ConfigurationError(f"limit {name}: singleton is skip or cancel, not {given['singleton']!r}")
        concurrency, strategy = 1, SINGLETONS[given["singleton"]]
    if strategy not in STRATEGIES:
        raise ConfigurationError(f"limit {name}: strategy is one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if not isinstance(concurrency, int) or concurrency < 0 or ("concurrency" in given and concurrency == 0):
        raise ConfigurationError(f"limit {name}: concurrency is a number of at least 1, not {concurrency!r}")
    if strategy == "cancel_oldest" and (not concurrency or rate):
        raise ConfigurationError(f"limit {name}: cancel_oldest makes room in a concurrency; a rate has none to make")
    return LimitNeed(
        group=given.get("group", "default"),
        name=name,
        concurrency=concurrency,
        rate=rate,
        rate_ms=rate_ms,
        strategy=strategy,
        debounce_ms=_ms(first),
        debounce_max_ms=_ms(longest),
    )


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _rate(name: str, option: str, given: tuple[int, Period]) -> tuple[int, int]:
    try:
        count, period = given
        period_ms = PERIODS[period] if isinstance(period, str) else _ms(period)
    except (TypeError, ValueError, KeyError, AttributeError):
        count, period_ms = 0, 0
    if not isinstance(count, int) or count < 1 or period_ms < 1:
        raise ConfigurationError(
            f"limit {name}: {option} is a number and a period, as (100, 'minute') or (5, timedelta(seconds=2)),"
            f" not {given!r}"
        )
    return count, period_ms


def checked(what: str, limits: Iterable[Limit], whole_run: bool) -> tuple[Limit, ...]:
    """The limits of a step or workflow. Raises ConfigurationError naming it."""
    found = tuple(limits)
    for limit in found:
        if not isinstance(limit, Limit):
            raise ConfigurationError(f"{what}: limits are a list of app.limit(...), not {limit!r}")
        if limit.gives_up and not whole_run:
            raise ConfigurationError(f"{what}: limit {limit.name} gives runs up; of a step use queue or round_robin")
    if len({limit.need.group for limit in found}) > 1:
        names = ", ".join(f"{limit.name} ({limit.need.group})" for limit in found)
        raise ConfigurationError(f"{what}: its limits must be of one group, so that they are granted at once: {names}")
    if len({limit.name for limit in found}) < len(found):
        raise ConfigurationError(f"{what}: names a limit twice")
    return found


def check_priority(what: str, priority: int) -> int:
    """A priority. Raises ConfigurationError."""
    if not isinstance(priority, int) or abs(priority) > HIGHEST_PRIORITY:
        raise ConfigurationError(f"{what}: priority is a whole number from -1,000,000 to 1,000,000, not {priority!r}")
    return priority


def needs_of(
    limits: tuple[Limit, ...], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], priority: int
) -> tuple[LimitNeed, ...]:
    """What a call needs: each limit with the key that its arguments give. Raises ConfigurationError."""
    return tuple(
        _need_of(
            limit.need,
            _value(limit, "key", limit.key, fn, args, kwargs),
            _value(limit, "fairness", limit.fairness, fn, args, kwargs),
            priority,
        )
        for limit in limits
    )


@functools.lru_cache(maxsize=1_024)
def _need_of(need: LimitNeed, key: str, fairness: str, priority: int) -> LimitNeed:
    return need._replace(key=key, fairness=fairness, priority=priority)


_signature = functools.lru_cache(maxsize=1_024)(inspect.signature)
"""Looked up once a function: it took a fifth of the time that a task takes to ask for its slot."""


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@functools.lru_cache(maxsize=1_024)
def _place(fn: Callable[..., Any], name: str) -> int:
    """Where a parameter is among a call's positional arguments; far behind them all if it is none."""
    names = [one.name for one in _signature(fn).parameters.values() if one.kind in _POSITIONAL]
    if next(iter(_signature(fn).parameters), "") == "self":
        names = names[1:]
    return names.index(name) if name in names else sys.maxsize


def _value(
    limit: Limit, what: str, key: Key, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    if not key:
        return ""
    if callable(key):
        found = key(*args, **kwargs)
    elif (place := _place(fn, key)) < len(args):
        found = args[place]
    else:
        signature = _signature(fn)
        if next(iter(signature.parameters), "") == "self":
            args = (None, *args)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if key not in bound.arguments:
            raise ConfigurationError(f"limit {limit.name}: {what} {key!r} is no parameter of {fn.__qualname__}")
        found = bound.arguments[key]
    text = str(found)
    if len(text) > MAX_KEY or "\x00" in text:
        raise ConfigurationError(
            f"limit {limit.name}: {what} has at most {MAX_KEY} characters and no NUL: {text[:40]!r}"
        )
    return text


def declared(registry_limits: dict[str, Limit], name: str, given: LimitOptions) -> Limit:
    """Make a limit, once. Raises ConfigurationError when one of that name says something else."""
    limit = Limit(name, given)
    known = registry_limits.get(name)
    if known is not None and known.need != limit.need:
        raise ConfigurationError(f"limit {name} is declared twice, and differently: give one of them another name")
    registry_limits[name] = limit
    return limit
