"""Values: codebook indices of 1 to 8 bits (weight sharing, Han et al., ICLR 2016, section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import (
    OFFSET_BYTES,
    Array,
    Elements,
    Histogram,
    SimpleValuePlan,
    Values,
    stream_record_bytes,
    var_bytes,
)

MAX_CODEBOOK = 256


class Packed:
    code = 1
    name = "packed"

    def plan(self, elements: Elements, table: Histogram | None = None) -> SimpleValuePlan | None:
        symbols = (table or elements.histogram).symbols
        if not 1 <= symbols.size <= MAX_CODEBOOK:
            return None
        width = max(1, int(symbols.size - 1).bit_length())
        size = bits.byte_count(elements.count * width)

        def make() -> Values:
            indices = elements.mapped(symbols, np.arange(symbols.size, dtype=np.uint8))
            return Values(bits.pack(indices, width), symbols, index_bits=width)

        return SimpleValuePlan(
            size,
            make,
            table_bytes=symbols.nbytes,
            record_bytes=stream_record_bytes(size) + var_bytes(symbols.size) + OFFSET_BYTES + 1,
        )

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        assert coded.codebook is not None
        indices = bits.unpack(coded.stream, count, coded.index_bits)
        if count and int(indices.max()) >= coded.codebook.size:
            raise ValueError(f"index {int(indices.max())} in a codebook of {coded.codebook.size}")
        return coded.codebook[indices].astype(dtype)
