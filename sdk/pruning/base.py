"""The interface between a training loop and a pruning method.

    pruner = pruning.attach("magnitude", model, sparsity=0.9, steps=steps)
    for x, y in batches:
        loss = criterion(model(x), y) + pruner.penalty()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        pruner.step()
    pruner.finish()

Attach before the optimizer is made: methods with parameters of their own add them to the model
(`pruner.parameters()`, part of model.parameters(), so that they can get another learning rate).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from zeroskip.errors import InputError
from zeroskip.pruning import schedules, scopes
from zeroskip.pruning.masks import mask_of, put_mask, zeros
from zeroskip.pruning.schedules import Schedule
from zeroskip.pruning.targets import Target, resolve

Batch = tuple[Tensor, Tensor]
STAGES: Final = ("before", "after", "during")


@dataclass(frozen=True)
class Data:
    """What data-driven scorers look at.

    `batches()` gives (inputs (N, ...), labels) afresh each time; `criterion(outputs, labels)`
    the mean loss of a batch, a scalar.
    """

    batches: Callable[[], Iterable[Batch]]
    criterion: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy

    @classmethod
    def of(cls, values: Tensor, labels: Tensor, size: int = 256) -> Data:
        """All of `values` (N, ...) in batches of `size`, in order."""

        def batches() -> Iterable[Batch]:
            return zip(torch.split(values, size), torch.split(labels, size), strict=True)

        return cls(batches)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        return self.criterion(model(batch[0]), batch[1])


@dataclass(frozen=True)
class Context:
    """What a scorer may use beside the weights.

    targets: the tensors to score, by name, in the order of the scores.
    example: an input (N, ...) of the model, for methods that need its shape only.
    scratch: what a scorer leaves for the compensator of the same round.
    """

    model: nn.Module
    targets: Mapping[str, Target]
    seed: int = 0
    data: Data | None = None
    example: Tensor | None = None
    scratch: dict[str, Any] = field(default_factory=dict)

    def need_data(self, method: str) -> Data:
        """The data. Raises InputError if none was given."""
        if self.data is None:
            raise InputError(f"pruning method '{method}' needs data: pass data=Data(...)")
        return self.data


class Scorer(Protocol):
    """Saliency of every weight: the lowest are pruned.

    `weights` are the trained tensors by name (pruned ones with the values they had or, under
    revival, have learnt); the result has the same names and shapes, finite or infinite.
    """

    def __call__(self, weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]: ...


class Compensator(Protocol):
    """The change of the remaining weights that goes with pruning the others.

    Called with the new masks (true for what stays) before they are set; gives the new values of
    the weights, by name, which are written where the masks are true.
    """

    def __call__(
        self, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], context: Context
    ) -> dict[str, Tensor]: ...


class Pruner(Protocol):
    """A method at work on one model."""

    def step(self) -> None:
        """To be called after each optimizer step."""

    def penalty(self) -> Tensor:
        """A scalar to be added to the (mean) loss of a batch; 0 for most methods."""

    def parameters(self) -> list[nn.Parameter]:
        """Parameters that the method trains beside the weights; mostly none."""

    def finish(self) -> None:
        """Fix the masks: the model then has plain masks (see masks.py) and nothing else."""

    def state_dict(self) -> dict[str, Any]:
        """What the model's own state_dict does not hold, for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: attach to a new model with the same options, load that
        model's state_dict, then this."""


@dataclass(frozen=True)
class Method:
    """An entry of the registry.

    `options` is a frozen dataclass, whose fields are the method's hyper-parameters, and which has
    a classmethod `for_run(sparsity, steps, **options)` if it aims at a sparsity; `attach` puts the
    method to work on targets of a model. Methods with a `scorer` also prune at once,
    without training: in `iterations` rounds, each with scores of its own, and with the weight
    update of `compensate`, if any.

    stages: where the method belongs, of STAGES: before training, after it, or during it.
    scope: what its source prunes by (see scopes.py).
    needs_data: whether the scorer looks at data.
    """

    name: str
    summary: str
    source: str
    options: type[Any]
    attach: Callable[[Mapping[str, Target], Any, Context], Pruner]
    scorer: Scorer | None = None
    stages: tuple[str, ...] = ("during",)
    iterations: int = 1
    compensate: Compensator | None = None
    scope: str = "global"
    needs_data: bool = False


@dataclass(frozen=True)
class ScoredOptions:
    """Hyper-parameters of every method that is a scorer with a schedule.

    schedule: the sparsity at each step (see schedules.py).
    scope: see scopes.py.
    revive: pruned weights go on learning, and come back when they score high again.
    layers: final sparsities by parameter or module name, instead of the schedule's: each tensor
        has its share of them when the schedule has that share of its own. Needs "layerwise".
    invert: the highest scores go instead of the lowest, as an ablation.
    """

    schedule: Schedule
    scope: str = "global"
    revive: bool = False
    layers: Mapping[str, float] | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        if self.layers is not None and self.scope != "layerwise":
            raise InputError("sparsities by layer need the scope 'layerwise'")
        scopes.parse(self.scope)

    @classmethod
    def for_run(cls, sparsity: float, steps: int, **options: Any) -> Self:
        """Options for a cubic schedule that ends after `steps` optimizer steps."""
        return cls(schedules.make("cubic", sparsity, steps), **options)


@dataclass
class ScoredPruner:
    """Follows the schedule: scores again whenever the sparsity rises.

    Under `revive` the masks are renewed every few steps of the schedule's ramp, and pruned
    weights compete with their current value; otherwise, and after the ramp, what was pruned
    stays pruned, before it was attached too. The weight update of `compensate` belongs to
    pruning for good: under `revive` there is none.
    """

    targets: Mapping[str, Target]
    options: ScoredOptions
    context: Context
    scorer: Scorer
    compensate: Compensator | None = None
    every: int = 16
    _step: int = field(default=0, init=False)
    _sparsity: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        # Masks from the start, so that the names in state_dict are the same all the time.
        for target in self.targets.values():
            if mask_of(target) is None:
                put_mask(target, torch.ones_like(target.value, dtype=torch.bool))
        self._update()

    def step(self) -> None:
        self._step += 1
        self._update()

    def penalty(self) -> Tensor:
        return torch.zeros(())

    def parameters(self) -> list[nn.Parameter]:
        return []

    def finish(self) -> None:
        last = self.options.schedule.last
        if self._step < last:
            self._apply(self.options.schedule.sparsity(last), False)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "sparsity": self._sparsity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self._sparsity = int(state["step"]), float(state["sparsity"])
        for target in self.targets.values():
            mask = mask_of(target)
            assert mask is not None
            mask.dense_gradient = self._reviving

    @property
    def _reviving(self) -> bool:
        return self.options.revive and self._step < self.options.schedule.last

    def _update(self) -> None:
        wanted = self.options.schedule.sparsity(self._step)
        again = self._reviving and wanted > 0 and self._step % self.every == 0
        ends = self.options.revive and self._step == self.options.schedule.last
        if wanted > self._sparsity or again or ends:
            self._apply(wanted, self._reviving)

    def _apply(self, sparsity: float, dense_gradient: bool) -> None:
        revive = self.options.revive
        before = {}
        for name, target in self.targets.items():
            present = mask_of(target)
            assert present is not None
            before[name] = torch.ones_like(present.mask) if revive else present.mask
        masks = cut(
            {n: t.original.detach() if revive else t.value for n, t in self.targets.items()},
            before,
            self._wanted(sparsity, list(before)),
            self.options.scope,
            self.context,
            self.scorer,
            None if revive else self.compensate,
            invert=self.options.invert,
        )
        for name, target in self.targets.items():
            put_mask(target, masks[name], dense_gradient)
        self._sparsity = sparsity

    def _wanted(self, sparsity: float, names: list[str]) -> float | dict[str, float]:
        """What the scope is asked for when the schedule says `sparsity`."""
        layers, schedule = self.options.layers, self.options.schedule
        if layers is None:
            return sparsity
        share = sparsity / max(schedule.sparsity(schedule.last), 1e-12)
        finals: dict[str, float] = resolve(dict(layers), names, "layers")
        return {name: share * final for name, final in finals.items()}


def cut(
    weights: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    sparsity: float | Mapping[str, float],
    scope: str,
    context: Context,
    scorer: Scorer,
    compensate: Compensator | None = None,
    *,
    invert: bool = False,
    exact: bool = False,
) -> dict[str, Tensor]:
    """The masks after one cut, bool by name, to be set by the caller; the weights that stay have
    the values of `compensate` already.

    weights: by name, as the scorer is to see them.
    before: the masks so far; what they prune stays pruned.
    sparsity: what `scope` is asked for (see scopes.masks).
    exact: raise InputError where more is pruned already, rather than leaving that as it is.
    """
    scores = scorer(weights, context)
    sign = -1 if invert else 1
    scores = {n: (sign * s).masked_fill(~before[n], -torch.inf) for n, s in scores.items()}
    proposed = scopes.masks(scores, sparsity, scope)
    masks = {name: mask & before[name] for name, mask in proposed.items()}
    if exact and scopes.parse(scope).group is None and zeros(masks) != zeros(proposed):
        raise InputError(
            f"{zeros(before):,} weights are pruned already, more than the sparsity asks for "
            "in all or in a layer"
        )
    if compensate is not None:
        update = compensate(weights, masks, context)
        with torch.no_grad():
            for name, target in context.targets.items():
                target.original.copy_(torch.where(masks[name], update[name], target.original))
    context.scratch.clear()
    return masks


def scored(
    name: str,
    summary: str,
    source: str,
    scorer: Scorer,
    *,
    stages: tuple[str, ...] = STAGES,
    **fields: Any,
) -> Method:
    """The method that prunes by `scorer`; `fields` are further ones of Method."""

    def attach(targets: Mapping[str, Target], options: Any, context: Context) -> Pruner:
        return ScoredPruner(targets, options, context, scorer, fields.get("compensate"))

    return Method(name, summary, source, ScoredOptions, attach, scorer, stages, **fields)
