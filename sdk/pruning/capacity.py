"""Layer collapse, and how far a network can be compressed before it.

Tanaka et al. 2020, section 3: a layer without weights cuts the network in two. The maximum
compression leaves one weight in each layer; the critical compression of a method is the largest
at which it leaves no layer empty.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from zeroskip import pruning
from zeroskip.errors import InputError
from zeroskip.pruning import scopes
from zeroskip.pruning.targets import Select, targets


def collapsed(masks: Mapping[str, Tensor]) -> list[str]:
    """The tensors of which no weight is left."""
    return [name for name, mask in masks.items() if not bool(mask.any())]


def maximum_compression(
    model: nn.Module, select: Select | None = None, exclude: Sequence[str] = ()
) -> float:
    """Weights per tensor: the compression that leaves one in each."""
    sizes = [t.value.numel() for t in targets(model, select, exclude).values()]
    return sum(sizes) / len(sizes)


def check_scope(scope: str) -> None:
    """Whether there is a critical compression under `scope`. Raises InputError."""
    if scopes.parse(scope).group is not None:
        raise InputError(f"scope {scope} has one compression only, so no critical one")


def critical_compression(
    model: nn.Module,
    name: str = "magnitude",
    *,
    select: Select | None = None,
    exclude: Sequence[str] = (),
    **options: Any,
) -> float:
    """The largest compression (weights over weights left) at which the method `name` leaves no
    tensor empty; `options` are those of `prune`. The model is not changed.

    Found by bisection over the count of weights left, which for methods of several rounds takes
    it that a collapse at one count means one at all lower counts. What is pruned already stays
    so. Raises InputError for the scope N:M, which leaves no choice.
    """
    check_scope(options.get("scope") or pruning.method(name).scope)
    present = pruning.masks_of(model, select, exclude)
    total = sum(mask.numel() for mask in present.values())

    def holds(left: int) -> bool:
        trial = copy.deepcopy(model)
        masks = pruning.prune(
            trial, 1 - left / total, name, select=select, exclude=exclude, **options
        )
        return not collapsed(masks)

    low, high = len(present) - 1, sum(int(m.sum()) for m in present.values())  # collapses, holds
    if collapsed(present):
        raise InputError(f"no weight of {collapsed(present)[0]} is left already")
    if holds(len(present)):
        return total / len(present)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return total / high


def densities(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """The share of weights left, by tensor; 0..1."""
    return {name: float(mask.double().mean()) for name, mask in masks.items()}
