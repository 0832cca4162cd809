"""Lottery tickets: subnetworks that train well from where they began.

Frankle and Carbin 2019: train, prune the smallest magnitudes, put the rest back to their values
at initialisation, and again. Frankle et al. 2020 (algorithm 2) rewind to step k instead; Renda,
Frankle and Carbin 2020 keep the weights and rewind the learning rate only. One round is a
one-shot ticket. Controls: `controls.shuffled` and `controls.reinitialise`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from zeroskip.errors import InputError
from zeroskip.pruning import scopes
from zeroskip.pruning.base import Context
from zeroskip.pruning.controls import reinitialise
from zeroskip.pruning.magnitude import magnitude
from zeroskip.pruning.masks import masks_of, set_masks
from zeroskip.pruning.targets import Select, resolve, targets

REWINDS: Final = ("weights", "learning-rate")

# Train a model in place from a step to another; the third argument is the round, for the noise.
Train = Callable[[nn.Module, int, int, int], None]


@dataclass(frozen=True)
class Ticket:
    """What a round leaves.

    round: how often it was pruned; 0 for the whole network.
    masks: bool by parameter name, true for what is left.
    start: the masked model that the round trained from step `step` on: weights of step k, or
        under learning-rate rewinding those of the round before.
    trained: the same after training to the end.
    """

    round: int
    masks: dict[str, Tensor]
    start: nn.Module
    step: int
    trained: nn.Module

    @property
    def density(self) -> float:
        """The share of the selected weights that is left; 0..1."""
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        return kept / sum(mask.numel() for mask in self.masks.values())


def densities(sparsity: float, rate: float = 0.2, rounds: int | None = None) -> list[float]:
    """What is left after each round: `rate` of what was there goes, or the rate that reaches
    `sparsity` in `rounds` rounds; the last is 1 - sparsity."""
    if not 0 < sparsity < 1:
        raise InputError(f"ticket: sparsity {sparsity:g} must be above 0 and below 1")
    if rounds is None:
        if not 0 < rate < 1:
            raise InputError(f"ticket: rate {rate:g} must be above 0 and below 1")
        rounds = max(1, math.ceil(math.log(1 - sparsity) / math.log(1 - rate) - 1e-9))
        left = [(1 - rate) ** i for i in range(1, rounds)]
    elif rounds < 1:
        raise InputError(f"ticket: rounds {rounds} must be at least 1")
    else:
        left = [(1 - sparsity) ** (i / rounds) for i in range(1, rounds)]
    return [*left, 1 - sparsity]


def tickets(
    model: nn.Module,
    train: Train,
    steps: int,
    left: Sequence[float],
    *,
    rewind: str = "weights",
    to: int = 0,
    scope: str = "global",
    powers: Mapping[str, float] | None = None,
    select: Select | None = None,
    exclude: Sequence[str] = (),
    trained: nn.Module | None = None,
    invert: bool = False,
) -> Iterator[Ticket]:
    """Iterative magnitude pruning: the whole network first, then a ticket per density of `left`
    (falling; see `densities`), each trained.

    model: as initialised; it is not changed.
    train: trains a model in place between two steps of `steps`.
    rewind: "weights" to step `to`, or the "learning-rate" alone.
    scope: "global" or "layerwise". Under "layerwise" a tensor's density is that of the round to
        the power given in `powers` by name (default 1): with 0.5 it is pruned at about half the
        rate, as Frankle and Carbin prune output layers.
    trained: the whole network after training, if it is there already; not changed.
    invert: remove the largest weights, as an ablation.
    """
    if rewind not in REWINDS:
        raise InputError(f"ticket: rewind '{rewind}' must be one of {', '.join(REWINDS)}")
    if not 0 <= to < steps:
        raise InputError(f"ticket: cannot rewind to step {to} of {steps}")
    if powers is not None and scope != "layerwise":
        raise InputError("ticket: powers by layer need the scope 'layerwise'")
    if any(b >= a for a, b in zip((1.0, *left), left, strict=False)):
        raise InputError("ticket: the densities must fall from below 1")
    start = copy.deepcopy(model)
    if to:
        train(start, 0, to, 0)
    masks = masks_of(start, select, exclude)
    given: dict[str, float] = {"*": 1.0, **(powers or {})}
    exponent: dict[str, float] = resolve(given, list(masks), "ticket: powers")
    origin = copy.deepcopy(start)
    for number in range(len(left) + 1):
        set_masks(start, masks, select)
        if number == 0 and trained is not None:
            ended = copy.deepcopy(trained)
            set_masks(ended, masks, select)
        else:
            ended = copy.deepcopy(start)
            train(ended, to, steps, number)
        yield Ticket(number, masks, start, to, ended)
        if number == len(left):
            return
        masks = _pruned(
            ended, masks, left[number], scope, exponent, select, exclude, -1 if invert else 1
        )
        start = copy.deepcopy(origin if rewind == "weights" else ended)


def reinitialised(ticket: Ticket, seed: int, make: Callable[[], nn.Module] | None = None) -> (
    nn.Module
):  # fmt: skip
    """The ticket's masks on weights drawn afresh: the control of the initialisation."""
    model = copy.deepcopy(ticket.start)
    reinitialise(model, seed, make)
    return model


def with_masks(ticket: Ticket, masks: Mapping[str, Tensor]) -> nn.Module:
    """The ticket's start under other masks, such as controls.shuffled(ticket.masks)."""
    model = copy.deepcopy(ticket.start)
    set_masks(model, masks, lambda name, module: name in masks)
    return model


def _pruned(
    trained: nn.Module,
    masks: Mapping[str, Tensor],
    density: float,
    scope: str,
    exponent: Mapping[str, float],
    select: Select | None,
    exclude: Sequence[str],
    sign: int,
) -> dict[str, Tensor]:
    chosen = targets(trained, select, exclude)
    weights = {n: t.value for n, t in chosen.items()}
    scores = magnitude(weights, Context(trained, chosen))
    scores = {n: (sign * s).masked_fill(~masks[n], -torch.inf) for n, s in scores.items()}
    wanted: float | dict[str, float] = 1 - density
    if scope == "layerwise":
        wanted = {n: 1 - density ** exponent[n] for n in scores}
    return scopes.masks(scores, wanted, scope)
