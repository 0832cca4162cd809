"""Positions: every element is stored."""

from __future__ import annotations

import numpy as np

from zeroskip.converters.codecs.base import BoolArray, Mask, Positions, RowSpans, SimplePlan


class Dense:
    code = 0
    name = "dense"

    def plan(self, mask: Mask) -> SimplePlan:
        return SimplePlan(0, lambda: Positions(b""))

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        if count != shape[0] * shape[1]:
            raise ValueError(f"{count} dense elements for {shape[0]} x {shape[1]}")
        return np.ones(shape, np.bool_)
