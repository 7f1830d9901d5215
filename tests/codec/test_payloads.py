"""User values by their type hints: what comes back as it went in, and what is refused because it would not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import zoneinfo
from typing import Any, NamedTuple, NotRequired

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, computed_field
from typing_extensions import TypedDict

from orchestrator.codec.payloads import Signature, adapter, decode_failure, encode_failure
from orchestrator.core.values import Failure, Payload
from orchestrator.errors import DoesNotRoundTrip, MissingHint, StepFailed, WorkflowFailed


class Base(BaseModel):
    x: int = 1


class Derived(Base):
    y: int = 2


class A(BaseModel):
    x: int = 1


class B(BaseModel):
    x: int = 1


class Aliased(BaseModel):
    user_id: int = Field(alias="userId")


class Secret(BaseModel):
    k: SecretStr


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int

    @computed_field
    @property
    def y(self) -> int:
        return self.x + 1


class Private(BaseModel):
    x: int
    _p: int = PrivateAttr(0)


class Blob(BaseModel):
    b: bytes


class Excluded(BaseModel):
    x: int
    big: str = Field(default="", exclude=True)


@dataclasses.dataclass
class Data:
    a: int
    b: list[tuple[int, str]]


@dataclasses.dataclass
class Half:
    a: int
    b: int = dataclasses.field(init=False, default=0)


class Typed(TypedDict):
    a: int
    b: NotRequired[str]


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    a: int
    b: str


def _private() -> Private:
    made = Private(x=1)
    made._p = 7
    return made


def _half() -> Half:
    made = Half(1)
    made.b = 5
    return made


ROUND: list[tuple[str, Any, Any]] = [
    ("bytes", bytes, b"\xff\x00"),
    ("alias", Aliased, Aliased(userId=3)),
    ("dataclass", Data, Data(1, [(1, "a")])),
    ("TypedDict", Typed, {"a": 1}),
    ("Enum", Colour, Colour.RED),
    ("NamedTuple", Pair, Pair(1, "a")),
    ("nan", float, math.nan),
    ("inf", float, math.inf),
    ("list of nan", list[float], [math.nan, 1.0]),
    ("Decimal", decimal.Decimal, decimal.Decimal("1.10")),
    ("int|str '1'", int | str, "1"),
    ("bool|int", int | bool, True),
    ("A|B as A", A | B, A()),
    ("B|A as B", B | A, B()),
    ("datetime naive", dt.datetime, dt.datetime(2026, 1, 1, 1, 2, 3, 456789)),  # noqa: DTZ001
    ("datetime Prague", dt.datetime, dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Prague"))),
    ("timedelta", dt.timedelta, dt.timedelta(days=3, microseconds=1)),
    ("Path", pathlib.Path, pathlib.Path("/a")),
    ("set", set[str], {"a", "b"}),
    ("frozenset", frozenset[int], frozenset({1, 2})),
    ("int keys", dict[int, str], {1: "a"}),
    ("large int", int, 2**80),
    ("int for float", float, 1),
    ("plain JSON without a hint", Any, {"a": [1, 2.5, None, True, "x"]}),
    ("None", None, None),
]
REFUSED: list[tuple[str, Any, Any]] = [
    ("tuple without a hint", Any, (1, 2)),
    ("datetime without a hint", Any, dt.datetime(2026, 1, 1)),  # noqa: DTZ001
    ("Decimal without a hint", Any, decimal.Decimal("1.10")),
    ("bytes without a hint", Any, b"ab"),
    ("int keys without a hint", Any, {1: 2}),
    ("model without a hint", Any, Base()),
    ("Derived as Base", Base, Derived()),
    ("list of Derived as Base", list[Base], [Derived()]),
    ("A|B as B", A | B, B()),
    ("SecretStr", Secret, Secret(k=SecretStr("s3"))),
    ("computed field, extra forbidden", Computed, Computed(x=1)),
    ("private attribute", Private, _private()),
    ("excluded field", Excluded, Excluded(x=1, big="data")),
    ("field outside __init__", Half, _half()),
    ("a model's bytes that are no text", Blob, Blob(b=b"\xff")),
    ("str|datetime", str | dt.datetime, dt.datetime(2026, 1, 1)),  # noqa: DTZ001
    ("surrogate", str, "\udc80"),
    ("object", object, object()),
    ("another type", int, "seven"),
    ("True for int", int, True),
]


@pytest.mark.parametrize(("name", "hint", "value"), ROUND, ids=[case[0] for case in ROUND])
def test_comes_back(name: str, hint: Any, value: Any) -> None:
    payload, decoded = adapter(hint).round_trip(value, name)
    assert decoded == value or (value != value and decoded != decoded) or repr(value) == repr(decoded)
    again, _ = adapter(hint).round_trip(decoded, name)
    assert again == payload or isinstance(value, set | frozenset)


@pytest.mark.parametrize(("name", "hint", "value"), REFUSED, ids=[case[0] for case in REFUSED])
def test_is_refused_and_says_where(name: str, hint: Any, value: Any) -> None:
    with pytest.raises(DoesNotRoundTrip, match=r"^here: "):
        adapter(hint).round_trip(value, "here")


def test_loose_takes_what_decodes() -> None:
    payload, decoded = adapter(Base).round_trip(Derived(), "here", loose=True)
    assert (payload.data, type(decoded)) == (b'{"x":1}', Base)
    with pytest.raises(DoesNotRoundTrip):
        adapter(int).round_trip("seven", "here", loose=True)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
        max_leaves=12,
    )
)
def test_any_json_comes_back(value: Any) -> None:
    _, decoded = adapter(Any).round_trip(value, "here")
    assert decoded == value


# -- signatures ----------------------------------------------------------------------------------------------------


def order(order_id: str, items: list[str], /, gift: bool = False, *, cents: int = 5) -> str:
    return order_id


def test_arguments_by_name_without_defaults() -> None:
    signature = Signature(order)
    payload = signature.bind(("7", ["pen"]), {"cents": 9})
    assert payload.data == b'{"order_id":"7","items":["pen"],"cents":9}'
    args, kwargs = signature.unbind(payload)
    assert (args, kwargs) == (("7", ["pen"]), {"cents": 9})


def test_equal_is_by_value_with_defaults() -> None:
    signature = Signature(order)
    plain = signature.bind(("7", []), {})
    assert signature.equal(plain, signature.bind(("7", []), {"cents": 5}))
    assert signature.equal(plain, Payload(data=b'{ "items": [], "order_id": "7" }'))
    assert not signature.equal(plain, signature.bind(("7", []), {"cents": 6}))
    assert not signature.equal(plain, Payload(data=b'{"order_id":"7","gone":1}'))


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"[1]", "not a JSON object"), (b'{"order_id":"7"}', "do not fit"), (b'{"nobody":1}', "no parameter 'nobody'")],
)
def test_recorded_arguments_that_do_not_fit(data: bytes, says: str) -> None:
    with pytest.raises(DoesNotRoundTrip, match=says):
        Signature(order).unbind(Payload(data=data))


def test_hints_that_are_missing_or_cannot_be_carried() -> None:
    def bare(a, b: int) -> int:  # type: ignore[no-untyped-def]
        return b

    def no_result(a: int):  # type: ignore[no-untyped-def]
        return a

    def spread(*a: int) -> int:
        return 1

    def unknown(a: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821, UP037
        return 1

    def strange(a: Signature) -> int:
        return 1

    for fn, says in (
        (bare, "'a' needs a type hint"),
        (no_result, "return type hint"),
        (spread, r"\*args"),
        (unknown, "cannot be resolved"),
        (strange, "cannot carry"),
    ):
        with pytest.raises(MissingHint, match=says):
            Signature(fn)


# -- failures ------------------------------------------------------------------------------------------------------


class Declared(Exception):
    def __init__(self, message: str, *, code: int, when: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.when = when


class Demanding(Exception):
    def __new__(cls, *args: Any, code: int) -> Demanding:
        return super().__new__(cls, *args)

    def __init__(self, *args: Any, code: int) -> None:
        super().__init__(*args)


class Later(Exception):
    next_retry_delay = dt.timedelta(seconds=90)


DECLARED: dict[str, type[BaseException]] = {"Declared": Declared, "Demanding": Demanding}


def there_and_back(error: BaseException) -> BaseException:
    """An error across the log."""
    return decode_failure(encode_failure(error, DECLARED), DECLARED)


def test_declared_errors_keep_their_fields() -> None:
    back = there_and_back(Declared("no", code=5))
    assert isinstance(back, Declared)
    assert (str(back), back.code, back.when) == ("no", 5, None)
    assert isinstance(back.__cause__, StepFailed)
    assert not encode_failure(Declared("no", code=5), DECLARED).retryable


def test_fields_that_are_no_json_are_left_out() -> None:
    back = there_and_back(Declared("no", code=5, when=object()))
    assert isinstance(back, Declared)
    assert str(back) == "no"


def test_an_error_that_cannot_be_rebuilt_arrives_as_step_failed() -> None:
    for error in (Demanding("x", code=1), ExceptionGroup("g", [ValueError(1)]), StopIteration(1)):
        back = there_and_back(error)
        assert isinstance(back, StepFailed)
        assert back.type == type(error).__name__


def test_a_built_in_error_that_is_damaged_is_no_crash() -> None:
    back = decode_failure(Failure("OSError", "x", Payload(data=b"[1]")), {})
    assert isinstance(back, StepFailed)


def test_what_is_tried_again() -> None:
    assert encode_failure(ValueError(1), DECLARED).retryable
    assert not encode_failure(WorkflowFailed("no"), DECLARED).retryable
    assert not encode_failure(DoesNotRoundTrip("no"), DECLARED).retryable
    later = encode_failure(Later(), DECLARED)
    assert (later.retryable, later.retry_after_ms) == (True, 90_000)
