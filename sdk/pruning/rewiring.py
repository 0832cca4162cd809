"""Sparse training with a fixed number of connections: masks that move while the network learns.

SET, DSR and Deep R (see evolution.py, dsr.py and deep_r.py) start from random masks with
Erdos-Renyi densities, and take connections away and give them elsewhere. What they share is here:
the start, exact counts, growing at random, checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from zeroskip.errors import InputError
from zeroskip.pruning import scopes
from zeroskip.pruning.base import Context
from zeroskip.pruning.masks import Mask, put_mask
from zeroskip.pruning.targets import Target

ROUNDS = 20  # how often masks move, unless said otherwise


@dataclass(frozen=True)
class RewiringOptions:
    """Hyper-parameters of all methods that rewire.

    sparsity: of all selected weights together, 0..1; their count never changes.
    stop: the optimizer step after which the masks stay as they are.
    every: steps between two moves.
    scope: how the first connections are spread: "erdos-renyi", "layerwise" or "global".
    """

    sparsity: float
    stop: int
    every: int = 1
    scope: str = "erdos-renyi"

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InputError(f"sparsity {self.sparsity:g} must be at least 0 and less than 1")
        if self.stop < 1 or self.every < 1:
            raise InputError(f"stop {self.stop} and every {self.every} must be at least 1")
        if self.scope not in scopes.NAMES:
            raise InputError(f"scope '{self.scope}' must be one of {', '.join(scopes.NAMES)}")

    @classmethod
    def for_run(cls, sparsity: float, steps: int, **options: Any) -> Self:
        """Options for masks that are final after `steps` optimizer steps."""
        return cls(
            **{"sparsity": sparsity, "stop": steps, "every": max(1, steps // ROUNDS)} | options
        )


@dataclass
class Rewirer(ABC):
    """A Pruner that moves connections. `moved` counts them."""

    targets: Mapping[str, Target]
    options: Any
    context: Context
    moved: int = field(default=0, init=False)
    _step: int = field(default=0, init=False)

    # Attributes that a checkpoint holds beside the above.
    _state: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self._random = torch.Generator().manual_seed(self.context.seed)
        scores = {
            name: torch.rand(target.value.shape, generator=self._random)
            for name, target in self.targets.items()
        }
        drawn = scopes.masks(scores, self.options.sparsity, self.options.scope)
        self._masks: dict[str, Mask] = {
            name: put_mask(target, drawn[name]) for name, target in self.targets.items()
        }

    @abstractmethod
    def _move(self) -> None:
        """Take connections away and give as many."""

    def step(self) -> None:
        self._step += 1
        if self._step <= self.options.stop and self._step % self.options.every == 0:
            with torch.no_grad():
                self._move()

    def penalty(self) -> Tensor:
        return torch.zeros(())

    def parameters(self) -> list[nn.Parameter]:
        return []

    def finish(self) -> None:
        """The masks are final as they are."""
        self._step = max(self._step, self.options.stop)

    def state_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in self._state}
        return {"step": self._step, "moved": self.moved, "random": self._random.get_state(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self.moved = int(state["step"]), int(state["moved"])
        self._random.set_state(state["random"])
        for name in self._state:
            setattr(self, name, state[name])

    def _remove(self, name: str, gone: Tensor) -> int:
        """Cut the connections where `gone` is true; how many."""
        self._masks[name].mask.logical_and_(~gone)
        return int(gone.sum())

    def _grow(self, name: str, count: int, but: Tensor | None = None) -> tuple[Tensor, ...]:
        """Connect `count` places of a tensor drawn at random, with weight 0: the first gradient
        decides their sign. `but` are places that must stay free. Gives their indices."""
        mask = self._masks[name].mask
        places = (~mask if but is None else ~mask & ~but).nonzero()
        order = torch.randperm(len(places), generator=self._random)[:count].to(places.device)
        chosen = places[order].unbind(1)
        mask[chosen] = True
        self.targets[name].original[chosen] = 0
        self.moved += len(order)
        return chosen


def shares(total: int, weights: Mapping[str, int], room: Mapping[str, int]) -> dict[str, int]:
    """`total` split in proportion to `weights`, no part above its `room`, exactly."""
    result = dict.fromkeys(weights, 0)
    left = total
    while left > 0:
        open_ = [n for n in weights if result[n] < room[n]]
        if not open_:
            raise InputError(f"no room for {left} connections")
        whole = sum(max(1, weights[n]) for n in open_)
        exact = {n: left * max(1, weights[n]) / whole for n in open_}
        parts = {n: min(int(exact[n]), room[n] - result[n]) for n in open_}
        if not any(parts.values()):  # remainders, the largest first
            for n in sorted(open_, key=lambda n: -exact[n])[:left]:
                parts[n] = 1
        for n, part in parts.items():
            result[n] += part
            left -= part
    return result
