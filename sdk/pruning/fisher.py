"""Optimal Brain Surgeon with the empirical Fisher matrix, in blocks and on the diagonal.

WoodFisher (Singh and Alistarh 2020): H is replaced by the mean over samples of g g^T, g the
gradient of a sample's loss, within blocks of neighbouring weights of a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from zeroskip.pruning.base import Context, scored
from zeroskip.pruning.per_sample import loss_gradients

BLOCK: Final = 1_000
DAMPING: Final = 1e-5
_MOST_VALUES: Final = 1 << 27  # of gradients at a time


def block_inverses(
    context: Context, name: str, block: int = BLOCK, damping: float = DAMPING
) -> Iterator[tuple[slice, Tensor]]:
    """For each block of a tensor's weights (row by row): where it is, and (F + damping I)^-1
    (b, b), float64."""
    size = context.targets[name].original.numel()
    samples = sum(len(y) for _, y in context.need_data("obs-fisher").batches())
    width = max(block, _MOST_VALUES // max(1, samples) // block * block)
    for start in range(0, size, width):
        part = slice(start, min(start + width, size))
        gradients = torch.cat(
            [g[name][:, part] for g in loss_gradients(context, "obs-fisher", [name])]
        )
        for first in range(0, gradients.shape[1], block):
            g = gradients[:, first : first + block].double()
            fisher = g.T @ g / samples
            fisher.diagonal().add_(damping)
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(fisher))
            yield slice(start + first, start + first + g.shape[1]), inverse


def block_fisher(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """w^2 / (2 [F^-1]_ii)."""
    result = {}
    for name, weight in weights.items():
        score = torch.zeros(weight.numel(), dtype=torch.float64)
        flat = weight.flatten().double()
        for place, inverse in block_inverses(context, name):
            score[place] = flat[place].square() / (2 * inverse.diagonal())
        result[name] = score.view(weight.shape)
    return result


def update(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], context: Context
) -> dict[str, Tensor]:
    """In each block every weight that goes moves those that stay by its own
    -w_q / [F^-1]_qq F^-1 e_q, and these moves add up, as in the official code.

    The inverses are made once more rather than kept: those of LeNet-300-100 take 2 GB.

    The joint solution (surgeon.compensated) is the better one of the quadratic model, and the
    worse one of the network: a Fisher matrix of some thousand samples does not determine it.
    """
    result = {}
    for name, weight in weights.items():
        flat, gone = weight.flatten().double(), ~masks[name].flatten()
        for place, inverse in block_inverses(context, name):
            moves = torch.where(gone[place], flat[place] / inverse.diagonal(), 0.0)
            flat[place] = flat[place] - inverse @ moves
        result[name] = flat.view(weight.shape).to(weight.dtype)
    return result


def diagonal_fisher(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """F_ii w^2 / 2: Optimal Brain Damage with the empirical Fisher matrix."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    samples = 0
    for gradients in loss_gradients(context, "fisher-diagonal"):
        samples += len(next(iter(gradients.values())))
        for name, part in gradients.items():
            total[name] += part.square().sum(0).view(total[name].shape)
    return {name: total[name] / samples * w.square() / 2 for name, w in weights.items()}


METHOD = scored(
    "obs-fisher",
    "optimal brain surgeon with blocks of the empirical Fisher matrix",
    "Singh and Alistarh 2020 (WoodFisher)",
    block_fisher,
    stages=("after",),
    needs_data=True,
    compensate=update,
)
DIAGONAL = scored(
    "fisher-diagonal",
    "F w^2 / 2 with the diagonal of the empirical Fisher matrix",
    "Singh and Alistarh 2020",
    diagonal_fisher,
    stages=("after",),
    needs_data=True,
)
