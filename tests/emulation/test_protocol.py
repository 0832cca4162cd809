"""The files between host and firmware, whole and damaged."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.emulation.protocol import Fault, Report, Tag, decode_results, encode_inputs
from zeroskip.errors import EmulationError, FormatError, InputError, ZeroSkipError


def record(tag: int, payload: bytes = b"") -> bytes:
    return struct.pack("<II", tag, len(payload)) + payload


def status(stage: int, code: int, text: str) -> bytes:
    return record(Tag.STATUS, struct.pack("<Ii", stage, code) + text.encode())


OUTPUT_INFO = record(Tag.OUTPUT_INFO, struct.pack("<7I", 0, 2, 1, 2, 0, 0, 2))
FLOAT_INFO = record(Tag.OUTPUT_INFO, struct.pack("<7I", 2, 1, 1, 0, 0, 0, 4))
COMPLETE = b"".join(
    [
        status(0, 0, "ok"),
        OUTPUT_INFO,
        FLOAT_INFO,
        record(Tag.OP, struct.pack("<II", 0, 11)),
        record(Tag.OUTPUT, b"\x01\xff"),
        record(Tag.OUTPUT, struct.pack("<f", 1.5)),
        record(Tag.OP, struct.pack("<II", 0, 12)),
        record(Tag.OUTPUT, b"\x02\x80"),
        record(Tag.OUTPUT, struct.pack("<f", -2.0)),
        record(Tag.STACK, struct.pack("<II", 100, 4096)),
        record(Tag.DONE),
    ]
)


def test_a_complete_run() -> None:
    report = decode_results(COMPLETE)
    assert isinstance(report, Report)
    first, second = report.outputs
    assert first.dtype == np.int8 and first.tolist() == [[[1, -1]], [[2, -128]]]
    assert second.dtype == np.float32 and second.tolist() == [[1.5], [-2.0]]
    assert report.ops == ((0, 11), (0, 12))
    assert (report.stack_bytes, report.stack_reserved_bytes) == (100, 4096)


def test_inputs_are_interleaved_by_sample() -> None:
    a = np.array([[1, 2], [3, 4]], np.int8)
    b = np.array([[0.5], [0.25]], np.float32)
    content = encode_inputs([a, b])
    assert struct.unpack_from("<4I", content) == (2, 2, 2, 4)
    assert content[16:] == b"\x01\x02" + struct.pack("<f", 0.5) + b"\x03\x04" + struct.pack(
        "<f", 0.25
    )
    with pytest.raises(InputError, match="different batch sizes"):
        encode_inputs([a, b[:1]])


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"", EmulationError, "ended before"),
        (COMPLETE[:-8], EmulationError, "ended before"),
        (status(0, -2, "malformed container"), FormatError, "malformed container .status -2"),
        (status(1, -5, "arena too small"), EmulationError, "zs_run failed .*arena too small"),
        (record(Tag.BAD_INPUT, struct.pack("<3I", 1, 8, 4)), InputError, "input 1 has 4 bytes"),
        (
            record(Tag.BAD_INPUT, struct.pack("<3I", 0xFFFFFFFF, 2, 1)),
            InputError,
            "has 2 inputs, got 1",
        ),
        (record(99), EmulationError, "unknown record 99"),
        (record(Tag.OUTPUT, b"x"), EmulationError, "malformed record 5"),
        (record(Tag.OP, b"x"), EmulationError, "malformed record 4"),
    ],
)
def test_what_ends_in_an_error(content: bytes, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        decode_results(content)


def test_a_fault() -> None:
    fault = record(Tag.FAULT, struct.pack("<3I", 1, 2, 3))
    assert decode_results(fault) == Fault(1, 2, 3)


def test_a_full_stack_is_no_result() -> None:
    full = record(Tag.STACK, struct.pack("<II", 4096, 4096))
    with pytest.raises(EmulationError, match="all of its 4096 bytes"):
        decode_results(full + record(Tag.DONE))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(at=st.integers(0, len(COMPLETE) - 1), value=st.integers(0, 255), cut=st.integers(0, 400))
def test_damage_ends_in_an_error_or_a_result(at: int, value: int, cut: int) -> None:
    content = bytearray(COMPLETE)
    content[at] = value
    try:
        decode_results(bytes(content[:cut]))
    except ZeroSkipError as error:
        assert str(error)


@pytest.mark.parametrize("text", ["enum tag", "TAG_STATUS = 1"])
def test_the_tags_are_those_of_the_firmware(text: str) -> None:
    from importlib import resources

    source = resources.files("zeroskip.runtime_c").joinpath("port", "main_emulated.c").read_text()
    assert text in source
    body = source[source.index("enum tag {") :]
    names = [
        line.split(",")[0].split("=")[0].strip()
        for line in body[: body.index("};")].splitlines()[1:]
        if line.strip()
    ]
    assert names == [f"TAG_{tag.name}" for tag in Tag]
    assert [tag.value for tag in Tag] == list(range(1, len(names) + 1))
