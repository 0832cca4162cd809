"""Values: codebook indices of 1 to 8 bits (weight sharing, Han et al., ICLR 2016, section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import Array, Values

MAX_CODEBOOK = 256


class Packed:
    code = 1
    name = "packed"

    def encode(self, values: Array) -> Values | None:
        codebook, indices = np.unique(values, return_inverse=True)
        if not 1 <= codebook.size <= MAX_CODEBOOK:
            return None
        width = max(1, int(codebook.size - 1).bit_length())
        stream = bits.pack(indices, width)
        return Values(stream, np.full(values.size, width, np.int64), codebook, index_bits=width)

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        assert coded.codebook is not None
        indices = bits.unpack(coded.stream, count, coded.index_bits)
        if count and int(indices.max()) >= coded.codebook.size:
            raise ValueError(f"index {int(indices.max())} in a codebook of {coded.codebook.size}")
        return coded.codebook[indices].astype(dtype)
