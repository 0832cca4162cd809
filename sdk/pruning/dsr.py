"""DSR: dynamic sparse reparameterization.

Mostafa and Wang 2019, "Parameter efficient training of deep convolutional neural networks by
dynamic sparse reparameterization", algorithm 1: weights below one global threshold go; the
threshold is doubled or halved when they were too few or too many; as many connections grow, in
proportion to what is left in each layer, from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zeroskip.errors import InputError
from zeroskip.pruning.base import Method
from zeroskip.pruning.rewiring import Rewirer, RewiringOptions, shares


@dataclass(frozen=True)
class DsrOptions(RewiringOptions):
    """threshold: the first one.
    target: the fraction of all connections that a move shall replace.
    tolerance: how far from it, relatively, leaves the threshold as it is.
    """

    threshold: float = 1e-3
    target: float = 0.1
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.threshold > 0 or not 0 < self.target < 1 or not 0 <= self.tolerance < 1:
            raise InputError(
                f"dsr: threshold {self.threshold:g} must be above 0, target {self.target:g} and "
                f"tolerance {self.tolerance:g} below 1"
            )


class Reparameterization(Rewirer):
    """DSR at work; a Pruner."""

    _state: ClassVar[tuple[str, ...]] = ("threshold",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.threshold = float(self.options.threshold)

    def _move(self) -> None:
        total = sum(int(mask.mask.sum()) for mask in self._masks.values())
        gone = {
            name: self._masks[name].mask & (target.original.abs() < self.threshold)
            for name, target in self.targets.items()
        }
        removed = sum(self._remove(name, places) for name, places in gone.items())
        left = {name: int(mask.mask.sum()) for name, mask in self._masks.items()}
        room = {name: mask.mask.numel() - left[name] for name, mask in self._masks.items()}
        for name, count in shares(removed, left, room).items():
            self._grow(name, count)
        wanted = self.options.target * total
        if removed < (1 - self.options.tolerance) * wanted:
            self.threshold *= 2
        elif removed > (1 + self.options.tolerance) * wanted:
            self.threshold /= 2


METHOD = Method(
    "dsr",
    "one adaptive threshold for all layers; connections move to the layers that keep theirs",
    "Mostafa and Wang 2019",
    DsrOptions,
    Reparameterization,
)
