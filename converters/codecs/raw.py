"""Values: as they are, int8 or float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeroskip.converters.codecs.base import (
    Array,
    Elements,
    Histogram,
    SimpleValuePlan,
    Values,
    stream_record_bytes,
)


class Raw:
    code = 0
    name = "raw"

    def plan(self, elements: Elements, table: Histogram | None = None) -> SimpleValuePlan:
        size = elements.count * elements.dtype.itemsize
        little = elements.dtype.newbyteorder("<")
        return SimpleValuePlan(
            size,
            lambda: Values(elements.vector().astype(little, copy=False).tobytes()),
            record_bytes=stream_record_bytes(size),
        )

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        if len(coded.stream) != count * dtype.itemsize:
            raise ValueError(f"{len(coded.stream)} bytes for {count} values of {dtype}")
        return np.frombuffer(coded.stream, dtype.newbyteorder("<")).astype(dtype)
