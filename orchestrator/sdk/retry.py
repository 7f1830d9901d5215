"""How often, and how soon, a failed step is tried again."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import timedelta

from ..core import values
from ..errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Temporal's names and defaults.

    The n-th wait is `initial_interval` × `backoff`ⁿ⁻¹, at most `max_interval` (None: 100 × the initial one).
    `max_attempts` 0 is unlimited. Errors of the types in `non_retryable` end the step at once: classes, or their names
    as they stand in the history.
    """

    initial_interval: timedelta = timedelta(seconds=1)
    backoff: float = 2.0
    max_interval: timedelta | None = None
    max_attempts: int = 0
    non_retryable: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ConfigurationError naming the field."""
        checks = {
            "initial_interval": self.initial_interval > timedelta(),
            "backoff": self.backoff >= 1.0,
            "max_interval": self.max_interval is None or self.max_interval >= self.initial_interval,
            "max_attempts": self.max_attempts >= 0,
        }
        for name, good in checks.items():
            if not good:
                raise ConfigurationError(
                    f"RetryPolicy: {name}={getattr(self, name)!r}; initial_interval is above zero, backoff at least 1,"
                    " max_interval no shorter than the initial one, max_attempts 0 (unlimited) or more"
                )

    def recorded(self) -> values.RetryPolicy:
        """As it stands on the log."""
        return values.RetryPolicy(
            _ms(self.initial_interval),
            float(self.backoff),
            0 if self.max_interval is None else _ms(self.max_interval),
            self.max_attempts,
            tuple(name for one in self.non_retryable for name in _names(one)),
        )


def _ms(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds() * 1000))


def _names(error: type[BaseException] | str) -> tuple[str, ...]:
    """A declared error is recorded by its name, any other class by its path; which it is may not be known yet."""
    if isinstance(error, str):
        return (error,)
    if getattr(builtins, error.__name__, None) is error:
        return (error.__name__,)
    return (error.__name__, f"{error.__module__}.{error.__qualname__}")
