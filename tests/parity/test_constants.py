"""Constants written out in C and in Python are equal, over the full set, both ways."""

import re
from enum import IntEnum
from importlib import resources

import pytest

from zeroskip._runtime import lib
from zeroskip.converters import format as container_format
from zeroskip.converters.codecs import POSITIONS, VALUES
from zeroskip.converters.format import DType, OpCode, PoolFlag


def c_enum(file: str, prefix: str) -> dict[str, int]:
    """NAME = value pairs of an enum in a C source."""
    text = resources.files("zeroskip.runtime_c").joinpath("src", file).read_text()
    return {n: int(v) for n, v in re.findall(rf"\b{prefix}(\w+)\s*=\s*(\d+)", text)}


@pytest.mark.parametrize(
    ("enum", "file", "prefix"),
    [(OpCode, "zs_internal.h", "ZS_CODE_"), (PoolFlag, "zs_op_pool.c", "FLAG_")],
)
def test_enums(enum: type[IntEnum], file: str, prefix: str) -> None:
    assert {m.name: int(m) for m in enum} == c_enum(file, prefix)


def test_codecs() -> None:
    assert {n.upper(): c.code for n, c in POSITIONS.items()} == c_enum(
        "zs_weights.h", "ZS_POSITION_"
    )
    assert {n.upper(): c.code for n, c in VALUES.items()} == c_enum("zs_weights.h", "ZS_VALUE_")


def test_public_header() -> None:
    assert {m.name: int(m) for m in DType} == {
        name: getattr(lib, f"ZS_{name}") for name in ("INT8", "UINT8", "FLOAT32")
    }
    assert container_format.MAJOR == lib.ZS_FORMAT_MAJOR
    assert container_format.MINOR == lib.ZS_FORMAT_MINOR


def test_limits() -> None:
    text = resources.files("zeroskip.runtime_c").joinpath("src", "zs_internal.h").read_text()
    limits = {n: 1 << int(v) for n, v in re.findall(r"#define (ZS_MAX_\w+) \(1u << (\d+)\)", text)}
    assert limits["ZS_MAX_ARENA"] == container_format.MAX_ARENA
    assert limits["ZS_MAX_WORK"] == container_format.MAX_WORK
    model = resources.files("zeroskip.runtime_c").joinpath("src", "zs_model.c").read_text()
    sizes = {n: int(v) for n, v in re.findall(r"#define (ZS_\w+_SIZE) (\d+)u", model)}
    assert sizes == {
        "ZS_HEADER_SIZE": container_format.HEADER.size,
        "ZS_TENSOR_SIZE": container_format.TENSOR.size,
        "ZS_IO_SIZE": container_format.IO.size,
    }
