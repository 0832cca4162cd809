"""Deep R: deep rewiring.

Bellec, Kappel, Maass and Legenstein 2018, "Deep rewiring: training very sparse deep networks",
algorithm 1: a connection has a fixed sign and a strength theta >= 0. Each step takes rate * alpha
from it and adds noise of variance 2 * rate * temperature; one whose strength falls below 0 is
cut, and a random dormant one, with a random sign, starts at 0 in its stead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from zeroskip.errors import InputError
from zeroskip.pruning.base import Method
from zeroskip.pruning.rewiring import Rewirer, RewiringOptions, shares


@dataclass(frozen=True)
class DeepROptions(RewiringOptions):
    """alpha: the L1 regularisation.
    temperature: of the noise; by default rate * alpha^2 / 18, with which its deviation is a third
        of the drift.
    rate: the learning rate that both are scaled by.
    """

    alpha: float = 1e-4
    temperature: float | None = None
    rate: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha < 0 or not self.rate > 0 or (self.temperature or 0.0) < 0:
            raise InputError(
                f"deep-r: alpha {self.alpha:g} and the temperature must not be negative, "
                f"rate {self.rate:g} above 0"
            )

    @classmethod
    def for_run(cls, sparsity: float, steps: int, **options: Any) -> Self:
        """It rewires at every step."""
        return cls(**{"sparsity": sparsity, "stop": steps} | options)

    @property
    def drift(self) -> float:
        """What a step takes from each strength."""
        return self.rate * self.alpha

    @property
    def deviation(self) -> float:
        """The standard deviation of a step's noise."""
        if self.temperature is None:
            return self.drift / 3
        return math.sqrt(2 * self.rate * self.temperature)


class DeepRewiring(Rewirer):
    """Deep R at work; a Pruner."""

    _state: ClassVar[tuple[str, ...]] = ("signs",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.signs: dict[str, Tensor] = {
            name: torch.where(target.original.detach() < 0, -1, 1).to(torch.int8)
            for name, target in self.targets.items()
        }

    def _move(self) -> None:
        gone = {}
        for name, target in self.targets.items():
            sign = self.signs[name].to(target.original.dtype)
            noise = torch.randn(sign.shape, generator=self._random).to(sign.device, sign.dtype)
            strength = sign * target.original - self.options.drift + self.options.deviation * noise
            mask = self._masks[name].mask
            target.original.copy_(torch.where(mask, sign * strength, target.original))
            gone[name] = mask & (strength < 0)
        removed = sum(self._remove(name, places) for name, places in gone.items())
        room = {name: int((~mask.mask).sum()) for name, mask in self._masks.items()}
        for name, count in shares(removed, room, room).items():
            chosen = self._grow(name, count)
            drawn = 2 * torch.randint(2, (len(chosen[0]),), generator=self._random) - 1
            self.signs[name][chosen] = drawn.to(self.signs[name])


METHOD = Method(
    "deep-r",
    "connections of fixed sign that drift, are cut at zero, and grow at random",
    "Bellec, Kappel, Maass and Legenstein 2018",
    DeepROptions,
    DeepRewiring,
)
