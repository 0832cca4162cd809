"""How a cell's network is made: train and prune in the order that its stage asks for.

    unpruned    initialise, train
    before      initialise, prune, train
    after       the trained control, prune, fine-tune
    during      initialise, train with a pruner at work
    ticket      the trained control, then rounds of pruning, rewinding and training

All of a seed's networks start from the same initialisation, and see the same order of samples in
their first training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

from zeroskip import pruning
from zeroskip.compression import source
from zeroskip.compression.samples import Samples
from zeroskip.compression.training import accuracy, train_steps
from zeroskip.experiments.cells import Cell
from zeroskip.experiments.spec import TICKET, MethodSpec, Spec, stage_of
from zeroskip.pruning import controls, tickets
from zeroskip.pruning.targets import Select

_TRAIN, _FINETUNE, _ABLATION = range(3)  # what a seed is used for


@dataclass(frozen=True)
class Trained:
    """A network, trained under its masks; `pruned` is the accuracy before fine-tuning, 0..1."""

    model: nn.Module
    masks: dict[str, Tensor]
    pruned: float | None = None


@dataclass
class Bench:
    """What the protocols work on: the spec, the cell, samples as floats, the trained control."""

    spec: Spec
    cell: Cell
    train: Samples
    test: Samples
    control: Callable[[], nn.Module]

    @property
    def method(self) -> MethodSpec:
        assert self.cell.method is not None
        return self.cell.method

    @property
    def model(self) -> str:
        """The cell's model, as compression.source.load takes it."""
        return self.spec.model_path(self.cell.model)

    def make(self) -> nn.Module:
        """The network as this seed initialises it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.cell.seed)
            return _loaded(self.model).make()

    @property
    def select(self) -> Select:
        return _loaded(self.model).select

    def noise(self, use: int, number: int = 0) -> int:
        """A seed for the order of samples: one per use, and per round."""
        return self.cell.seed * 1_000_003 + 101 * number + use

    def fit(self, model: nn.Module, pruner: pruning.Pruner | None = None) -> None:
        train_steps(model, self.train, self.spec.train, self.noise(_TRAIN), pruner=pruner)

    def finetune(self, model: nn.Module) -> None:
        if self.spec.finetune.epochs:
            train_steps(model, self.train, self.spec.finetune, self.noise(_FINETUNE))

    def masks(self, model: nn.Module) -> dict[str, Tensor]:
        return pruning.masks_of(model, self.select, self.method.exclude)

    def ablated(self, model: nn.Module) -> None:
        """What the cell's ablation does once the masks are there."""
        seed = self.noise(_ABLATION)
        if self.cell.ablation == "shuffle":
            pruning.set_masks(model, controls.shuffled(self.masks(model), seed), self.select)
        elif self.cell.ablation == "reinitialise":
            controls.reinitialise(model, seed, _loaded(self.model).make)

    def looked_at(self) -> dict[str, Any]:
        """What a method may prune, and what it may look at: arguments of pruning.prune and
        pruning.attach."""
        count = self.method.score_samples or self.spec.score_samples
        rows = self.train.per_class(count, self.cell.seed)
        return {
            "select": self.select,
            "exclude": self.method.exclude,
            "seed": self.cell.seed,
            "data": pruning.Data.of(*self.train.batch(rows), len(rows)),
            "example": self.train.values[:1],
        }

    def prune(self, model: nn.Module) -> dict[str, Tensor]:
        """Prune at once, by the cell's method; with the ablation."""
        masks = pruning.prune(
            model,
            self.cell.sparsity,
            self.method.method,
            scope=self.method.scope or None,
            iterations=self.method.iterations or None,
            invert=self.cell.ablation == "invert",
            **self.looked_at(),
        )
        self.ablated(model)
        return masks


def run(bench: Bench) -> Trained:
    """Make the cell's network. Raises InputError."""
    if bench.cell.method is None:
        model = bench.make()
        bench.fit(model)
        return Trained(model, {})
    return PROTOCOLS[stage_of(bench.cell.method)](bench)


def _before(bench: Bench) -> Trained:
    model = bench.make()
    bench.prune(model)
    bench.fit(model)
    return Trained(model, bench.masks(model))


def _after(bench: Bench) -> Trained:
    model = bench.control()
    bench.prune(model)
    pruned = accuracy(model, bench.test)
    bench.finetune(model)
    return Trained(model, bench.masks(model), pruned)


def _during(bench: Bench) -> Trained:
    model = bench.make()
    options: dict[str, Any] = dict(bench.method.options)
    if bench.method.scope:
        options["scope"] = bench.method.scope
    if bench.cell.ablation == "invert":
        options["invert"] = True
    steps = pruning.final_step(bench.spec.train.steps(bench.train))
    pruner = pruning.attach(
        bench.method.method, model, sparsity=bench.cell.sparsity, steps=steps,
        **bench.looked_at(), **options,
    )  # fmt: skip
    bench.fit(model, pruner)
    pruner.finish()
    if bench.cell.ablation in ("shuffle", "reinitialise"):  # the masks found, from the start
        masks, model = bench.masks(model), bench.make()
        pruning.set_masks(model, masks, bench.select)
        bench.ablated(model)
        bench.fit(model)
    return Trained(model, bench.masks(model))


def _ticket(bench: Bench) -> Trained:
    options = dict(bench.method.options)
    steps = bench.spec.train.steps(bench.train)
    to = round(float(options.get("to", 0)) * steps)
    left = tickets.densities(
        bench.cell.sparsity, float(options.get("rate", 0.2)), options.get("rounds")
    )

    def train(model: nn.Module, start: int, stop: int, number: int) -> None:
        train_steps(
            model, bench.train, bench.spec.train, bench.noise(_TRAIN, number),
            start=start, stop=stop,
        )  # fmt: skip

    found = tickets.tickets(
        bench.make(), train, steps, left,
        rewind=options.get("rewind", "weights"), to=to, scope=bench.method.scope or "global",
        select=bench.select, exclude=bench.method.exclude,
        trained=bench.control() if not to else None, invert=bench.cell.ablation == "invert",
    )  # fmt: skip
    *_, last = found
    if bench.cell.ablation in ("none", "invert"):
        return Trained(last.trained, last.masks)
    model = copy.deepcopy(last.start)
    bench.ablated(model)
    train(model, to if bench.cell.ablation == "shuffle" else 0, steps, 0)
    return Trained(model, bench.masks(model))


PROTOCOLS: Final[dict[str, Callable[[Bench], Trained]]] = {
    "before": _before,
    "after": _after,
    "during": _during,
    TICKET: _ticket,
}


@cache
def _loaded(path: str) -> source.Source:
    """The model's source; its file is run once per process."""
    return source.load(path)
