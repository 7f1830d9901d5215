"""One call of a language model: OpenAI's wire protocol, streamed, with the SDK's own retries off.

Retries are the engine's: what goes wrong here is raised, recorded, and tried again after a durable wait.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

import openai
from openai.types.chat import ChatCompletionChunk

MODEL = "extractive-1"
"""The bundled model server's only model; `OPENAI_MODEL` names another."""
TIMEOUT_S = 120.0


class RateLimited(Exception):
    """The endpoint asked to come back later. The engine waits for `next_retry_delay` on its log, not in memory."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds

    @property
    def next_retry_delay(self) -> timedelta:
        """How long the endpoint asked us to wait."""
        return timedelta(seconds=self.seconds)


class ModelBroke(Exception):
    """The answer did not come, or not to its end. Worth another attempt."""


class ModelRefused(Exception):
    """The endpoint refuses this request for good: a wrong key, an unknown model. No attempt will change that."""

    retryable = False


@lru_cache(maxsize=1)
def _client(_loop: asyncio.AbstractEventLoop, base_url: str) -> openai.AsyncOpenAI:
    """The process's client: making one costs more than a call, and belongs to the loop it is used on."""
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=os.environ.get("OPENAI_API_KEY") or "none",
        max_retries=0,
        timeout=TIMEOUT_S,
        # A connection a call: none grows stale during a durable wait, none is left open at the end.
        default_headers={"Connection": "close"},
    )


async def complete(system: str, user: str, label: str, key: str) -> str:
    """The model's answer, streamed and whole. Raises RateLimited, ModelBroke, ModelRefused."""
    base_url = os.environ.get("OPENAI_BASE_URL", "")
    if not base_url:
        raise ModelRefused("OPENAI_BASE_URL is not set: `python -m examples.environment_audit` starts a model server")
    client = _client(asyncio.get_running_loop(), base_url)
    try:
        stream = await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL") or MODEL,
            messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
            stream=True,
            extra_headers={"Idempotency-Key": key, "X-Step": label, "X-Step-Label": label},
        )
        return await _gather(stream)
    except openai.RateLimitError as error:
        seconds = retry_after(error.response.headers.get("retry-after"))
        raise RateLimited(f"rate limited, come back in {seconds:g} s", seconds) from error
    except openai.APIStatusError as error:
        if error.status_code in (408, 409) or error.status_code >= 500:
            raise ModelBroke(f"the endpoint answered {error.status_code}") from error
        raise ModelRefused(f"the endpoint refuses the request ({error.status_code}): {error.message}") from error
    except openai.APIError as error:
        raise ModelBroke(f"the connection to the model broke: {error.message}") from error


async def _gather(stream: openai.AsyncStream[ChatCompletionChunk]) -> str:
    pieces: list[str] = []
    finished = False
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                finished = finished or choice.finish_reason is not None
    if not finished:
        raise ModelBroke("the stream ended before the answer did")
    return "".join(pieces).strip()


def retry_after(header: str | None, default_s: float = 5.0) -> float:
    """Seconds of a `Retry-After` header: a number, or a date (RFC 9110); `default_s` if it says nothing."""
    if not header:
        return default_s
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return default_s
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
