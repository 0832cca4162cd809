"""Linear mode connectivity: is the way between two trained networks free of barriers?

Frankle, Dziugaite, Roy and Carbin 2020. Two copies of a network (or of a pruned one) are trained
from the same state with different orders of the data; the error along the straight segment
between them tells whether they ended in one linearly connected basin.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from zeroskip.errors import InputError
from zeroskip.pruning.base import Data
from zeroskip.pruning.masks import bake

POINTS: Final = 30
STABLE: Final = 0.02  # the paper's limit of instability

Error = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Segment:
    """Errors (0..1) at `alphas` from 0 (the first network) to 1 (the second)."""

    alphas: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def instability(self) -> float:
        """The highest error on the way above the mean of the two ends (section 2)."""
        return max(self.errors) - (self.errors[0] + self.errors[-1]) / 2

    @property
    def stable(self) -> bool:
        return self.instability < STABLE


def interpolated(first: nn.Module, second: nn.Module, alpha: float) -> nn.Module:
    """(1 - alpha) first + alpha second: parameters, masks applied, and floating-point buffers.

    Raises InputError if the two are not of one kind.
    """
    result, other = _plain(first), _plain(second)
    state, values = result.state_dict(), other.state_dict()
    if state.keys() != values.keys() or any(state[k].shape != values[k].shape for k in state):
        raise InputError("only two networks with the same tensors can be interpolated")
    with torch.no_grad():
        for key, tensor in state.items():
            if tensor.is_floating_point():
                tensor.copy_((1 - alpha) * tensor + alpha * values[key])
    return result


def error_along(
    first: nn.Module,
    second: nn.Module,
    error: Error,
    points: int = POINTS,
    recalibrate: Data | None = None,
) -> Segment:
    """The error at `points` equally spaced networks, the ends included.

    Batch-norm statistics are interpolated like the weights, or gathered afresh at each point
    from the data of `recalibrate` (Garipov et al. 2018).
    """
    if points < 2:
        raise InputError(f"a segment needs at least 2 points, not {points}")
    alphas = tuple(i / (points - 1) for i in range(points))
    errors = []
    for alpha in alphas:
        model = interpolated(first, second, alpha)
        if recalibrate is not None:
            recompute_statistics(model, recalibrate)
        errors.append(error(model.eval()))
    return Segment(alphas, tuple(errors))


def instability(
    start: nn.Module,
    train: Callable[[nn.Module, int], None],
    error: Error,
    *,
    seeds: Sequence[int] = (1, 2),
    points: int = POINTS,
    recalibrate: Data | None = None,
) -> Segment:
    """Instability analysis: copies of `start` (masks and all), trained by `train(model, seed)`
    with two seeds of the noise; the segment between them. `start` is not changed."""
    if len(seeds) != 2 or seeds[0] == seeds[1]:
        raise InputError("instability analysis needs two different seeds")
    ends = []
    for seed in seeds:
        model = copy.deepcopy(start)
        train(model, seed)
        ends.append(model)
    return error_along(ends[0], ends[1], error, points, recalibrate)


def recompute_statistics(model: nn.Module, data: Data) -> None:
    """Batch-norm means and variances as averages over the batches of `data`."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    model.train()
    with torch.no_grad():
        for values, _ in data.batches():
            model(values)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _plain(model: nn.Module) -> nn.Module:
    made = copy.deepcopy(model)
    bake(made, lambda name, module: True)
    return made
