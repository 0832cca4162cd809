"""The files that emulated firmware reads and writes (runtime_c/port/main_emulated.c)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.errors import EmulationError, FormatError, InputError

Array = npt.NDArray[Any]

INPUT_FILE: Final = "input.bin"
RESULT_FILE: Final = "result.bin"

_DTYPES: Final = {0: np.dtype(np.int8), 1: np.dtype(np.uint8), 2: np.dtype("<f4")}
LOST: Final = 0xFFFFFFFF  # PORT_LOST of port.h
_WHOLE_MODEL: Final = 0xFFFFFFFF


class Tag(IntEnum):
    """enum tag of main_emulated.c."""

    STATUS = 1
    OUTPUT_INFO = 2
    BAD_INPUT = 3
    OP = 4
    OUTPUT = 5
    FAULT = 6
    STACK = 7
    DONE = 8


@dataclass(frozen=True)
class Fault:
    """A HardFault: where, where from, and the CFSR register (0 on ARMv6-M and in Unicorn).

    `pc` is LOST where the registers were saved outside the stack: it has overflowed.
    """

    pc: int
    lr: int
    cause: int
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """A complete run: outputs (N, *shape), (op index, MACs executed) in order of execution."""

    outputs: tuple[Array, ...]
    ops: tuple[tuple[int, int], ...]
    stack_bytes: int
    stack_reserved_bytes: int


def encode_inputs(inputs: Sequence[Array]) -> bytes:
    """input.bin for arrays (N, ...) of the model's own dtypes, one per input."""
    samples = {a.shape[0] for a in inputs}
    if len(samples) != 1:
        raise InputError(f"the inputs have different batch sizes: {sorted(samples)}")
    count = samples.pop()
    raw = [a.tobytes() for a in inputs]
    sizes = [a.nbytes // count if count else 0 for a in inputs]
    head = struct.pack(f"<{2 + len(inputs)}I", count, len(inputs), *sizes)
    body = (
        data[sample * size : (sample + 1) * size]
        for sample in range(count)
        for data, size in zip(raw, sizes, strict=True)
    )
    return head + b"".join(body)


def decode_results(content: bytes) -> Report | Fault:
    """result.bin of a run, complete or ended by a fault.

    Raises FormatError if the device refused the container, InputError if it refused the
    inputs, EmulationError if the run failed or the file ends early.
    """
    shapes: list[tuple[Any, tuple[int, ...]]] = []  # dtype, shape
    outputs: list[list[bytes]] = []
    ops: list[tuple[int, int]] = []
    stack = (0, 0)
    turn = 0
    at = 0
    while at + 8 <= len(content):
        tag, size = struct.unpack_from("<II", content, at)
        payload = content[at + 8 : at + 8 + size]
        at += 8 + size
        if len(payload) != size:
            break
        try:
            if tag == Tag.STATUS:
                _check_status(payload)
            elif tag == Tag.OUTPUT_INFO:
                dtype, rank, *dims = struct.unpack("<7I", payload)[:6]
                shapes.append((_DTYPES[dtype], tuple(dims[:rank])))
                outputs.append([])
            elif tag == Tag.BAD_INPUT:
                _refuse_input(*struct.unpack("<3I", payload))
            elif tag == Tag.OP:
                ops.append(struct.unpack("<II", payload))
            elif tag == Tag.OUTPUT:
                outputs[turn % len(outputs)].append(payload)
                turn += 1
            elif tag == Tag.FAULT:
                return Fault(*struct.unpack("<3I", payload))
            elif tag == Tag.STACK:
                stack = struct.unpack("<II", payload)
            elif tag == Tag.DONE:
                if 0 < stack[1] <= stack[0]:
                    raise EmulationError(
                        f"the stack overflowed: all of its {stack[1]} bytes were used; "
                        "raise stack.size in board.toml"
                    )
                arrays = tuple(
                    np.frombuffer(b"".join(rows), dtype).reshape(len(rows), *shape).copy()
                    for rows, (dtype, shape) in zip(outputs, shapes, strict=True)
                )
                return Report(arrays, tuple(ops), stack[0], stack[1])
            else:
                raise EmulationError(f"the firmware wrote an unknown record {tag}")
        except (struct.error, KeyError, ZeroDivisionError, ValueError) as error:
            raise EmulationError(f"the firmware wrote a malformed record {tag}: {error}") from error
    raise EmulationError("the firmware ended before its run was complete")


def _check_status(payload: bytes) -> None:
    stage, status = struct.unpack_from("<Ii", payload)
    text = payload[8:].decode("utf-8", "replace")
    if status != 0 and stage == 0:
        raise FormatError(f"the device refused the container: {text} (status {status})")
    if status != 0:
        raise EmulationError(f"zs_run failed on the device: {text} (status {status})")


def _refuse_input(index: int, wanted: int, given: int) -> None:
    if index == _WHOLE_MODEL:
        raise InputError(f"the model has {wanted} inputs, got {given}")
    raise InputError(f"input {index} has {given} bytes per inference, the model takes {wanted}")
