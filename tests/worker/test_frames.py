"""The wire between executor and step process."""

from __future__ import annotations

import random

import pytest

from orchestrator.core.values import BlobRef, Failure, Payload
from orchestrator.sdk.execution import StepCall
from orchestrator.worker import frames
from orchestrator.worker.frames import BrokenFrame, FrameReader

CALL = StepCall(
    "flow-ä",
    "run",
    "0.1:7",
    3,
    "run/0.1:7/3",
    "charge",
    Payload(data=b'{"x":"\xc3\xa4"}'),
    "flow-%C3%A4/run/0.1:7",
    1_000,
    2_000,
    Payload("json", "key-1", b"\x00\xff", BlobRef("dir", "abc", 70_000)),
    "park",
    12.5,
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def test_a_call_survives_the_wire() -> None:
    [frame] = FrameReader().feed(frames.encode_start(9, CALL))
    assert frames.decode_start(frame) == (9, CALL)


def test_a_failure_survives_the_wire() -> None:
    failure = Failure("app.Declined", "no \ud800", Payload(data=b'{"cents":5}'), "Traceback…", False, 250)
    [frame] = FrameReader().feed(frames.encode_outcome(4, Payload(), failure))
    assert frame.kind == frames.FAILED
    assert frames.decode_failure(frame) == failure


def test_frames_come_out_whole_however_the_stream_is_cut() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    sent = [frames.encode(frames.DONE, [n], Payload(data=chance.randbytes(chance.randrange(300)))) for n in range(200)]
    stream, reader, got = b"".join(sent), FrameReader(), []
    while stream:
        cut = chance.randrange(1, 400)
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert [frames.encode(frame.kind, frame.fields, *frame.payloads) for frame in got] == sent


@pytest.mark.parametrize(
    "damage", [b"\xff" * 16, b"\x00\x00\x00\x08\x00\x00\x00\x04nope", b"\x00\x00\x00\x04\x00\x00\x00\x09...."]
)
def test_what_is_no_frame_is_refused(damage: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameReader().feed(damage)
