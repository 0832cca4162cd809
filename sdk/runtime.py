"""The C runtime on the host: the only module that imports the cffi extension."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip._runtime import ffi, lib
from zeroskip.errors import FormatError, InputError, RuntimeStatusError

Array = npt.NDArray[Any]

_DTYPES: Final[dict[int, np.dtype[Any]]] = {
    int(lib.ZS_INT8): np.dtype(np.int8),
    int(lib.ZS_UINT8): np.dtype(np.uint8),
    int(lib.ZS_FLOAT32): np.dtype("<f4"),
}


@dataclass(frozen=True)
class Port:
    """An input or output: shape without the batch; real = scale * (value - zero_point)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    def quantize(self, values: Array) -> Array:
        """Real float values of any shape to this port's dtype, rounding halves away from 0.

        The arithmetic is the runtime's own (FORMAT.md, op convert): float32 throughout.
        """
        if self.dtype == np.float32:
            return values.astype(np.float32)
        limits = np.iinfo(self.dtype)
        x = values.astype(np.float32) / np.float32(self.scale)
        x = np.nan_to_num(x, nan=0.0, posinf=1e9, neginf=-1e9).clip(-1e9, 1e9)
        whole = np.trunc(x)
        rounded = whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)
        q = rounded.astype(np.int64) + self.zero_point
        quantized: Array = q.clip(limits.min, limits.max).astype(self.dtype)
        return quantized

    def dequantize(self, values: Array) -> npt.NDArray[np.float32]:
        """Values of this port's dtype to real float32 values."""
        if self.dtype == np.float32:
            return values.astype(np.float32)
        shifted = (values.astype(np.int32) - self.zero_point).astype(np.float32)
        return np.float32(self.scale) * shifted


class Model:
    """A validated container, ready to run; safe to share between threads.

    Build one with `Model.load(path)` or `Model(blob)`.
    """

    def __init__(self, blob: bytes) -> None:
        """Validate `blob`. Raises FormatError if it is not a container this build can run."""
        self._blob = bytes(blob)
        self._buffer = ffi.from_buffer(self._blob)
        self._model = ffi.new("struct zs_model *")
        status = lib.zs_model_init(self._model, self._buffer, len(self._blob))
        if status != lib.ZS_OK:
            raise FormatError(f"{_text(status)} ({len(self._blob)} bytes)")
        self.inputs = _ports(self._model, lib.zs_input_count, lib.zs_input_info)
        self.outputs = _ports(self._model, lib.zs_output_count, lib.zs_output_info)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read and validate a .zsk file. Raises FormatError, or OSError if it cannot be read."""
        try:
            return cls(Path(path).read_bytes())
        except FormatError as error:
            raise FormatError(f"{os.fspath(path)}: {error}") from None

    @property
    def arena_bytes(self) -> int:
        """Bytes of RAM for activations and scratch."""
        return int(lib.zs_arena_size(self._model))

    @property
    def op_count(self) -> int:
        return int(lib.zs_op_count(self._model))

    def run(self, *inputs: npt.ArrayLike) -> Array | list[Array]:
        """Run a batch: one array (N, *shape) per input, in order.

        Integer arrays are the model's own quantised integers; float arrays are quantised with
        the input's scale when the model's input is an integer. A single inference may leave
        the axis N out; the outputs then do so, too.

        Returns the output of shape (N, *shape) in the model's own dtype, or the list of them if
        the model has several. Raises InputError for arrays that do not fit.
        """
        return self.run_counted(*inputs)[0]

    def run_counted(self, *inputs: npt.ArrayLike) -> tuple[Array | list[Array], list[int]]:
        """As `run`, and the multiply-accumulates executed by each op, summed over the batch.

        Products with a zero weight or a zero activation that were skipped are not counted.
        """
        arrays, single = self._prepare([np.asarray(x) for x in inputs])
        count = arrays[0].shape[0]
        outputs = [np.zeros((count, *p.shape), p.dtype) for p in self.outputs]
        macs = np.zeros(self.op_count, np.uint64)
        size = self.arena_bytes
        arena = np.zeros(max(1, (size + 3) // 4), np.uint32)
        status = lib.zs_host_run(
            self._model,
            ffi.from_buffer(arena),
            size,
            count,
            ffi.new("const uint8_t *[]", [ffi.from_buffer("uint8_t[]", a) for a in arrays]),
            ffi.new("uint8_t *[]", [ffi.from_buffer("uint8_t[]", a) for a in outputs]),
            ffi.from_buffer("uint64_t[]", macs),
        )
        if status != lib.ZS_OK:
            raise RuntimeStatusError(_text(status), status)
        results = [a[0] for a in outputs] if single else outputs
        return results[0] if len(results) == 1 else results, [int(m) for m in macs]

    def run_observed(self, observe: Callable[[int, Array], None], *inputs: npt.ArrayLike) -> None:
        """Run one inference; before each op `observe` gets its index and the arena, bytes that
        must not be written. An error that it raises ends the observation and is raised."""
        arrays, _ = self._prepare([np.asarray(x) for x in inputs])
        if arrays[0].shape[0] != 1:
            raise InputError(f"one inference is observed, not a batch of {arrays[0].shape[0]}")
        size = self.arena_bytes
        arena = np.zeros(max(1, (size + 3) // 4), np.uint32)
        view = arena.view(np.uint8)
        view.flags.writeable = False
        errors: list[Exception] = []

        def before(user: Any, op: int) -> None:
            try:
                if not errors:
                    observe(int(op), view)
            except Exception as error:  # none may cross the C code
                errors.append(error)

        callback = ffi.callback("void(void *, unsigned)", before)
        hook = ffi.new("struct zs_hook *", {"before": callback, "after": ffi.NULL})
        memory = ffi.from_buffer(arena)
        for index, array in enumerate(arrays):
            lib_input = lib.zs_input(self._model, memory, index)
            ffi.memmove(lib_input, array.tobytes(), array.nbytes)
        status = lib.zs_run(self._model, memory, size, hook)
        if errors:
            raise errors[0]
        if status != lib.ZS_OK:
            raise RuntimeStatusError(_text(status), status)

    def prepare(self, *inputs: npt.ArrayLike) -> list[Array]:
        """`inputs` as `run` hands them to the runtime: (N, *shape), contiguous, of the ports'
        dtypes. Raises InputError for arrays that do not fit."""
        return self._prepare([np.asarray(x) for x in inputs])[0]

    def _prepare(self, arrays: Sequence[Array]) -> tuple[list[Array], bool]:
        """Arrays (N, *shape), contiguous, of the ports' dtypes; whether N was left out."""
        if len(arrays) != len(self.inputs):
            raise InputError(f"the model has {len(self.inputs)} inputs, got {len(arrays)} arrays")
        prepared = []
        single = arrays[0].shape == self.inputs[0].shape
        for index, (array, port) in enumerate(zip(arrays, self.inputs, strict=True)):
            batch = array[np.newaxis] if single else array
            if batch.shape[1:] != port.shape or batch.ndim != len(port.shape) + 1:
                expected = ", ".join(["N", *map(str, port.shape)])
                raise InputError(
                    f"input {index} has shape {array.shape}, the model takes ({expected})"
                )
            if batch.shape[0] != (1 if single else arrays[0].shape[0]):
                raise InputError(f"input {index} has another batch size than input 0")
            if batch.dtype.kind == "f":
                batch = port.quantize(batch)
            elif batch.dtype.kind not in "iu":
                raise InputError(f"input {index} has dtype {array.dtype}, need integers or floats")
            elif port.dtype == np.float32:
                batch = batch.astype(np.float32)
            elif batch.dtype != port.dtype:
                limits = np.iinfo(port.dtype)
                if batch.size and (batch.min() < limits.min or batch.max() > limits.max):
                    raise InputError(
                        f"input {index} has values from {batch.min()} to {batch.max()}, "
                        f"the model takes {port.dtype}: {limits.min} to {limits.max}"
                    )
            prepared.append(np.ascontiguousarray(batch, port.dtype))
        return prepared, single


def _ports(model: Any, count: Any, info_of: Any) -> tuple[Port, ...]:
    info = ffi.new("struct zs_tensor_info *")
    ports = []
    for index in range(count(model)):
        info_of(model, index, info)
        ports.append(
            Port(
                shape=tuple(info.dims[i] for i in range(info.rank)),
                dtype=_DTYPES[int(info.dtype)],
                scale=float(info.scale),
                zero_point=int(info.zero_point),
            )
        )
    return tuple(ports)


def _text(status: int) -> str:
    return str(ffi.string(lib.zs_strerror(status)).decode())
