"""SET: sparse evolutionary training.

Mocanu, Mocanu, Stone, Nguyen, Gibescu and Liotta 2018, "Scalable training of artificial neural
networks with adaptive sparse connectivity inspired by network science", algorithm 1: regularly the
fraction zeta of each layer's smallest positive and largest negative weights goes, and as many new
connections are drawn at random in the layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zeroskip.errors import InputError
from zeroskip.pruning.base import Method
from zeroskip.pruning.rewiring import Rewirer, RewiringOptions


@dataclass(frozen=True)
class SetOptions(RewiringOptions):
    """zeta: the fraction of connections that each move replaces (the paper's 0.3)."""

    zeta: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.zeta < 1:
            raise InputError(f"set: zeta {self.zeta:g} must be above 0 and below 1")


class Evolution(Rewirer):
    """SET at work; a Pruner."""

    def _move(self) -> None:
        for name, target in self.targets.items():
            weights, mask = target.original, self._masks[name].mask
            gone = _nearest(weights, mask & (weights >= 0), self.options.zeta)
            gone |= _nearest(weights, mask & (weights < 0), self.options.zeta)
            count = self._remove(name, gone)
            grown = len(self._grow(name, count, but=gone)[0])
            # In a layer that is nearly full the places just left have to serve again.
            self._grow(name, count - grown)


def _nearest(weights: Tensor, among: Tensor, fraction: float) -> Tensor:
    """Where the `fraction` of `among` nearest to zero are."""
    places = among.nonzero()
    count = int(fraction * len(places))
    order = weights[among].abs().argsort(stable=True)[:count]
    result = torch.zeros_like(among)
    result[places[order].unbind(1)] = True
    return result


METHOD = Method(
    "set",
    "the weights nearest to zero give way to random new connections in their layer",
    "Mocanu et al. 2018",
    SetOptions,
    Evolution,
)
