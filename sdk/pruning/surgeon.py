"""The algebra of Optimal Brain Surgeon (Hassibi and Stork 1993), which all its forms share.

With a quadratic loss of curvature H, removing weight q costs w_q^2 / (2 [H^-1]_qq), and the others
follow by -w_q / [H^-1]_qq * H^-1 e_q (equation 5). What is left is again such a problem, whose
inverse comes from H^-1 by one step of Gaussian elimination (Frantar and Alistarh 2022, lemma 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

_MOST_VALUES: Final = 1 << 26  # of inverses at a time
_COMPACT: Final = 0.75


def recursive_inverse(vectors: Iterable[Tensor], size: int, samples: int, alpha: float) -> Tensor:
    """(alpha I + sum X X^T / samples)^-1, (size, size), one rank-one update per row X of the
    chunks `vectors` (n, size) (equation 18)."""
    inverse: Tensor | None = None
    for chunk in vectors:
        if inverse is None:
            inverse = torch.eye(size, dtype=chunk.dtype, device=chunk.device) / alpha
        for x in chunk:
            column = inverse @ x
            inverse -= torch.outer(column, column) / (samples + x @ column)
    if inverse is None:
        raise ValueError("no vectors")
    return inverse


def greedy_losses(weights: Tensor, inverse: Tensor) -> Tensor:
    """The loss of each weight when all weights of a row are removed one by one, always the one of
    the least loss, the others following: (rows, n) for `weights` (rows, n).

    `inverse` is H^-1, (n, n) for all rows. Losses are made to rise strictly along each row's
    order of removal, so that their lowest are always a beginning of it.
    """
    size = max(1, _MOST_VALUES // weights.shape[1] ** 2)
    return torch.cat([_greedy(part, inverse) for part in torch.split(weights, size)])


def _greedy(weights: Tensor, inverse: Tensor) -> Tensor:
    rows, n = weights.shape
    every = torch.arange(rows)
    result = torch.zeros_like(weights)
    work = weights.clone()
    h = inverse.expand(rows, n, n).clone()
    places = torch.arange(n).expand(rows, n).clone()  # column of `work` -> weight
    dead = torch.zeros(rows, n, dtype=torch.bool)
    highest = torch.zeros(rows, dtype=weights.dtype)
    infinite = torch.full_like(highest, torch.inf)
    for removed in range(n):
        diagonal = h.diagonal(dim1=1, dim2=2).clamp_min(1e-30)
        loss = (work.square() / (2 * diagonal)).masked_fill(dead, torch.inf)
        least, q = loss.min(1)
        highest = torch.maximum(torch.nextafter(highest, infinite), least)
        result[every, places[every, q]] = highest
        row = h[every, q]  # (rows, n), symmetric: the column as well
        scale = 1 / row[every, q].clamp_min(1e-30)
        work -= row * (work[every, q] * scale)[:, None]
        h.baddbmm_((row * scale[:, None])[:, :, None], row[:, None, :], alpha=-1)
        dead[every, q] = True
        work[dead] = 0
        left = n - removed - 1
        if 0 < left < _COMPACT * work.shape[1]:  # go on with what is there: a third of the work
            alive = (~dead).nonzero()[:, 1].view(rows, left)
            work, places = work.gather(1, alive), places.gather(1, alive)
            h = h.gather(1, alive[:, :, None].expand(-1, -1, h.shape[2]))
            h = h.gather(2, alive[:, None, :].expand(-1, left, -1)).contiguous()
            dead = torch.zeros(rows, left, dtype=torch.bool)
    return result


def compensated(weights: Tensor, inverse: Tensor, gone: Tensor) -> Tensor:
    """Weights (n,) after those where `gone` is true are removed and the others have followed:
    w - H^-1[:, S] (H^-1[S, S])^-1 w_S, at which greedy removal of S ends, too."""
    if not bool(gone.any()):
        return weights
    removed = gone.nonzero().flatten()
    corner = inverse[removed][:, removed]
    solved = torch.linalg.solve(corner, weights[removed])
    result: Tensor = weights - inverse[:, removed] @ solved
    result[removed] = 0
    return result


def refitted(weights: Tensor, curvature: Tensor, gone: Tensor) -> Tensor:
    """The same from H instead of H^-1, for few weights left: w_K + H_KK^-1 H_KS w_S."""
    kept, removed = (~gone).nonzero().flatten(), gone.nonzero().flatten()
    result = torch.zeros_like(weights)
    if len(kept):
        pull = curvature[kept][:, removed] @ weights[removed]
        result[kept] = weights[kept] + torch.linalg.solve(curvature[kept][:, kept], pull)
    return result
