"""From scores to masks, with exactly the number of zeros that was asked for.

The lowest scores go. Among equal scores the earlier weight goes first (first layer first, row
by row), so that equal scores give equal masks on every machine.

A scope is named by a string:

    global          all tensors are ranked together
    layerwise       the same sparsity in each tensor, or one given by name
    erdos-renyi     a density per tensor, proportional to the sum of its sides over their product
    2:4             at most 2 of each 4 neighbouring weights of a row stay (any N:M); the sparsity
                    is 1 - N/M, whatever is asked for
    4x1             blocks of 4 output channels by 1 weight stay or go as one, all ranked together;
    4x1@layerwise   or in each tensor

A row is what makes one output, in the order of the container: kernel row, kernel column, input
channel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroskip.errors import InputError
from zeroskip.pruning.densities import erdos_renyi
from zeroskip.pruning.targets import resolve

NAMES: Final = ("global", "layerwise", "erdos-renyi")
_GROUP: Final = re.compile(r"(\d{1,4}):(\d{1,4})")
_BLOCK: Final = re.compile(r"(\d{1,4})x(\d{1,4})(?:@(global|layerwise))?")

Scores = Mapping[str, Tensor]
Masks = dict[str, Tensor]


@dataclass(frozen=True)
class Scope:
    """What a scope's name says. `group` is (N, M); `block` (outputs, weights of a row)."""

    ranked: str
    group: tuple[int, int] | None = None
    block: tuple[int, int] | None = None


def parse(name: str) -> Scope:
    """Raises InputError for a name that is no scope."""
    if name in NAMES:
        return Scope(name)
    if found := _GROUP.fullmatch(name):
        kept, size = int(found[1]), int(found[2])
        if 0 < kept < size:
            return Scope("group", group=(kept, size))
    if found := _BLOCK.fullmatch(name):
        rows, columns = int(found[1]), int(found[2])
        if rows * columns > 0:
            return Scope(found[3] or "global", block=(rows, columns))
    raise InputError(
        f"scope '{name}' must be one of {', '.join(NAMES)}, N:M (2:4), "
        "or a block (4x1, 4x1@layerwise)"
    )


def zeros_for(sparsity: float, weights: int) -> int:
    """How many of `weights` are zero at `sparsity`, to the nearest; halves round up."""
    if not 0 <= sparsity <= 1:
        raise InputError(f"sparsity {sparsity:g} must be in 0..1")
    return min(weights, int(sparsity * weights + 0.5))


def check(
    sparsity: float | Mapping[str, float], names: Sequence[str], scope: str
) -> dict[str, float]:
    """The sparsity of each tensor. Raises InputError for what `masks` does not take."""
    if isinstance(sparsity, Mapping) and parse(scope).ranked != "layerwise":
        raise InputError("a sparsity per layer needs the scope 'layerwise'")
    wanted = resolve(sparsity, names, "sparsity")
    for value in wanted.values():
        zeros_for(value, 0)
    return wanted


def masks(scores: Scores, sparsity: float | Mapping[str, float], scope: str = "global") -> Masks:
    """Bool masks, true for the weights that stay.

    "global" removes zeros_for(sparsity, all weights); "layerwise" removes zeros_for(sparsity,
    its weights) in each tensor, and takes a mapping by name as well. Blocks go while that brings
    the count of zeros nearer to the one asked for. What was pruned before has a score of -inf: it
    counts as zeros, and the other weights of its block rank the block. Raises InputError for
    scores that are NaN.
    """
    for name, score in scores.items():
        if bool(torch.isnan(score).any()):
            raise InputError(f"the scores of '{name}' hold NaN; are its weights finite?")
    wanted = check(sparsity, list(scores), scope)
    parsed = parse(scope)
    if parsed.group is not None:
        kept, size = parsed.group
        return {name: _per_row(score, lambda r: _groups(r, kept, size)) for name, score in
                scores.items()}  # fmt: skip
    if parsed.ranked == "global":
        assert not isinstance(sparsity, Mapping)
        return _ranked(scores, sparsity, parsed.block)
    if parsed.ranked == "erdos-renyi":
        assert not isinstance(sparsity, Mapping)
        return _erdos_renyi(scores, sparsity)
    result: Masks = {}
    for name, score in scores.items():
        result |= _ranked({name: score}, wanted[name], parsed.block)
    return result


def _ranked(scores: Scores, sparsity: float, block: tuple[int, int] | None) -> Masks:
    """The masks of tensors whose scores compete with each other."""
    removed = zeros_for(sparsity, sum(score.numel() for score in scores.values()))
    if block is not None:
        return _blocks(scores, removed, block)
    ranked = torch.cat([score.detach().flatten().double() for score in scores.values()])
    parts = torch.split(_keep(ranked, removed), [score.numel() for score in scores.values()])
    return {
        name: part.view(score.shape)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def _erdos_renyi(scores: Scores, sparsity: float) -> Masks:
    """Each tensor at its density; the total is what "global" would remove."""
    sizes = {name: score.numel() for name, score in scores.items()}
    removed = zeros_for(sparsity, sum(sizes.values()))
    densities = erdos_renyi({n: tuple(s.shape) for n, s in scores.items()}, 1 - sparsity)
    zeros = {name: zeros_for(1 - densities[name], size) for name, size in sizes.items()}
    for name in sorted(sizes, key=lambda n: -sizes[n]):  # the largest takes what rounding left
        change = removed - sum(zeros.values())
        zeros[name] = min(max(0, zeros[name] + change), sizes[name])
    return {
        name: _keep(score.detach().flatten().double(), zeros[name]).view(score.shape)
        for name, score in scores.items()
    }


def _rows(tensor: Tensor) -> Tensor:
    """(outputs, row): convolutions (O, I, H, W) with the input channels last."""
    moved = tensor.movedim(1, -1) if tensor.ndim > 2 else tensor
    return moved.reshape(len(tensor), -1)


def _per_row(score: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """The mask of `rule`, which takes and gives (outputs, row), in the shape of `score`."""
    kept = rule(_rows(score.detach().double()))
    if score.ndim <= 2:
        return kept.view(score.shape)
    moved = score.movedim(1, -1)
    return kept.view(moved.shape).movedim(-1, 1).contiguous()


def _groups(rows: Tensor, kept: int, size: int) -> Tensor:
    """The `kept` highest of each `size` neighbours; a shorter last group keeps as many."""
    width = rows.shape[1]
    padded = torch.nn.functional.pad(rows, (0, -width % size), value=-torch.inf)
    groups = padded.view(len(rows), -1, size)
    # The later of equal scores stays, so among the highest the order is turned round.
    order = groups.flip(2).argsort(dim=2, descending=True, stable=True)[..., :kept]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, size - 1 - order, True)
    # A padded place is no weight: its turn goes to a pruned neighbour, which does not come back.
    return mask.view(len(rows), -1)[:, :width].clone()


def _blocks(scores: Scores, removed: int, block: tuple[int, int]) -> Masks:
    means: list[Tensor] = []
    counts: list[Tensor] = []
    for score in scores.values():
        rows = _rows(score.detach().double())
        there = ~torch.isneginf(rows)
        removed -= int((~there).sum())
        counts.append(_pooled(there.double(), block).flatten())
        sums = _pooled(rows.masked_fill(~there, 0), block).flatten()
        means.append((sums / counts[-1]).masked_fill(counts[-1] == 0, -torch.inf))
    order = torch.cat(means).argsort(stable=True)
    size = torch.cat(counts)[order]
    gone = torch.zeros(len(order), dtype=torch.bool)
    gone[order] = size.cumsum(0) - size / 2 <= removed
    parts = torch.split(~gone, [len(c) for c in counts])

    def spread(blocks: Tensor, rows: Tensor) -> Tensor:
        high, wide = (-(-n // b) for n, b in zip(rows.shape, block, strict=True))
        grid = blocks.view(high, wide).repeat_interleave(block[0], 0)
        return grid.repeat_interleave(block[1], 1)[: rows.shape[0], : rows.shape[1]].contiguous()

    result: Masks = {}
    for (name, score), part in zip(scores.items(), parts, strict=True):
        result[name] = _per_row(score, lambda rows, part=part: spread(part, rows))  # type: ignore[misc]
        if removed >= 0:
            result[name] &= ~torch.isneginf(score)
    return result


def _pooled(rows: Tensor, block: tuple[int, int]) -> Tensor:
    """The sum of each block; those at the end may be smaller."""
    high, wide = (-n % b for n, b in zip(rows.shape, block, strict=True))
    padded = torch.nn.functional.pad(rows, (0, wide, 0, high))
    a, b = block
    return padded.view(padded.shape[0] // a, a, padded.shape[1] // b, b).sum((1, 3))


def _keep(scores: Tensor, removed: int) -> Tensor:
    """False for the `removed` lowest of `scores` (N,)."""
    if removed == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = torch.kthvalue(scores, removed).values
    gone = scores < threshold
    ties = (scores == threshold).nonzero().flatten()
    gone[ties[: removed - int(gone.sum())]] = True
    return ~gone
