"""Values: as they are, int8 or float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeroskip.converters.codecs.base import Array, Values


class Raw:
    code = 0
    name = "raw"

    def encode(self, values: Array) -> Values:
        width = values.dtype.itemsize * 8
        stored = values.astype(values.dtype.newbyteorder("<"), copy=False)
        return Values(stored.tobytes(), np.full(values.size, width, np.int64))

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        if len(coded.stream) != count * dtype.itemsize:
            raise ValueError(f"{len(coded.stream)} bytes for {count} values of {dtype}")
        return np.frombuffer(coded.stream, dtype.newbyteorder("<")).astype(dtype)
