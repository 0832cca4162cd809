"""From scores to masks, with exactly the number of zeros that was asked for.

The lowest scores go. Among equal scores the earlier weight goes first (first layer first, row
by row), so that equal scores give equal masks on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from zeroskip.errors import InputError
from zeroskip.pruning.targets import resolve

NAMES: Final = ("global", "layerwise")


def zeros_for(sparsity: float, weights: int) -> int:
    """How many of `weights` are zero at `sparsity`, to the nearest; halves round up."""
    if not 0 <= sparsity <= 1:
        raise InputError(f"sparsity {sparsity:g} must be in 0..1")
    return min(weights, int(sparsity * weights + 0.5))


def masks(
    scores: Mapping[str, Tensor], sparsity: float | Mapping[str, float], scope: str = "global"
) -> dict[str, Tensor]:
    """Bool masks, true for the weights that stay.

    "global" ranks all scores together and removes zeros_for(sparsity, all weights) of them;
    "layerwise" removes zeros_for(sparsity, its weights) in each tensor, and takes a mapping by
    name as well. Raises InputError for scores that are NaN.
    """
    for name, score in scores.items():
        if bool(torch.isnan(score).any()):
            raise InputError(f"the scores of '{name}' hold NaN; are its weights finite?")
    if scope == "layerwise":
        wanted = resolve(sparsity, list(scores), "sparsity")
        return {
            name: _keep(score.flatten(), zeros_for(wanted[name], score.numel())).view(score.shape)
            for name, score in scores.items()
        }
    if scope != "global":
        raise InputError(f"scope '{scope}' must be one of {', '.join(NAMES)}")
    if isinstance(sparsity, Mapping):
        raise InputError("a sparsity per layer needs the scope 'layerwise'")
    ranked = torch.cat([score.detach().flatten().double() for score in scores.values()])
    kept = _keep(ranked, zeros_for(sparsity, ranked.numel()))
    parts = torch.split(kept, [score.numel() for score in scores.values()])
    return {
        name: part.view(score.shape)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def _keep(scores: Tensor, removed: int) -> Tensor:
    """False for the `removed` lowest of `scores` (N,)."""
    if removed == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = torch.kthvalue(scores, removed).values
    gone = scores < threshold
    ties = (scores == threshold).nonzero().flatten()
    gone[ties[: removed - int(gone.sum())]] = True
    return ~gone
