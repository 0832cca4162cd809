"""Optimal Brain Surgeon (Hassibi and Stork 1993, NIPS 5), exact: for networks of some thousand
weights. The curvature is that of all selected weights together, by the paper's recursion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from zeroskip.errors import InputError
from zeroskip.pruning.base import Context, scored
from zeroskip.pruning.per_sample import output_gradients, sample_count
from zeroskip.pruning.surgeon import compensated, greedy_losses, recursive_inverse

MOST_WEIGHTS: Final = 4_000
ALPHA: Final = 1e-6  # the paper's range is 1e-8 to 1e-4


def inverse_hessian(context: Context, alpha: float = ALPHA) -> Tensor:
    """H^-1 (n, n), float64, over all targets in their order. Raises InputError for a network that
    is too large."""
    size = sum(t.original.numel() for t in context.targets.values())
    if size > MOST_WEIGHTS:
        raise InputError(
            f"pruning method 'obs' is for at most {MOST_WEIGHTS:,} weights, not {size:,}; "
            "obs-fisher and exact-obs are for larger networks"
        )
    vectors = (
        torch.cat([part[name] for name in context.targets], 1).double()
        for part in output_gradients(context, "obs")
    )
    return recursive_inverse(vectors, size, sample_count(context, "obs"), alpha)


def obs(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """The loss at which each weight goes, one by one, all others following each time."""
    inverse = inverse_hessian(context)
    context.scratch["inverse"] = inverse
    flat = _flat(weights)
    return _parted(greedy_losses(flat[None], inverse)[0], weights)


def update(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], context: Context
) -> dict[str, Tensor]:
    """The weights after all that the masks remove has gone."""
    gone = torch.cat([~masks[name].flatten() for name in weights])
    return _parted(compensated(_flat(weights), context.scratch["inverse"], gone), weights)


def _flat(weights: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([weight.flatten() for weight in weights.values()]).double()


def _parted(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = torch.split(flat, [tensor.numel() for tensor in like.values()])
    return {
        name: part.view(tensor.shape)
        for (name, tensor), part in zip(like.items(), parts, strict=True)
    }


METHOD = scored(
    "obs",
    "optimal brain surgeon, exact, for small networks: the remaining weights follow",
    "Hassibi and Stork 1993",
    obs,
    stages=("after",),
    needs_data=True,
    compensate=update,
)
