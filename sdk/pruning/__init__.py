"""Pruning of PyTorch models: methods, scopes, schedules and masks. Needs torch.

`attach` puts a method to work in a training loop (see base.py); `prune` prunes once by a
score, without training. Methods are found by name in METHODS and in entry points of the group
"zeroskip.pruning", each "module:attribute" of a Method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from torch import Tensor, nn

from zeroskip.errors import InputError
from zeroskip.pruning import scopes
from zeroskip.pruning.base import (
    STAGES,
    Compensator,
    Context,
    Data,
    Method,
    Pruner,
    ScoredOptions,
    Scorer,
    cut,
    scored,
)
from zeroskip.pruning.masks import Mask, bake, load_masks, masks_of, set_masks, sparsity, zeros
from zeroskip.pruning.schedules import (
    Cubic,
    Exponential,
    Iterative,
    OneShot,
    Schedule,
    final_step,
)
from zeroskip.pruning.targets import Select, Target, layer_weights, resolve, targets

__all__ = [
    "METHODS",
    "STAGES",
    "Compensator",
    "Context",
    "Cubic",
    "Data",
    "Exponential",
    "Iterative",
    "Mask",
    "Method",
    "OneShot",
    "Pruner",
    "Schedule",
    "ScoredOptions",
    "Scorer",
    "Select",
    "Target",
    "attach",
    "bake",
    "final_step",
    "layer_weights",
    "load_masks",
    "masks_of",
    "method",
    "method_names",
    "prune",
    "resolve",
    "scored",
    "set_masks",
    "settings",
    "sparsity",
    "targets",
]

METHODS: Final = {
    "deep-r": "zeroskip.pruning.deep_r:METHOD",
    "dsr": "zeroskip.pruning.dsr:METHOD",
    "exact-obs": "zeroskip.pruning.exact_obs:METHOD",
    "fisher-diagonal": "zeroskip.pruning.fisher:DIAGONAL",
    "gradient-magnitude": "zeroskip.pruning.taylor:METHOD_GRADIENT",
    "gradual": "zeroskip.pruning.magnitude:GRADUAL",
    "grasp": "zeroskip.pruning.grasp:METHOD",
    "grasp-magnitude": "zeroskip.pruning.grasp:MAGNITUDE",
    "magnitude": "zeroskip.pruning.magnitude:METHOD",
    "obd": "zeroskip.pruning.obd:METHOD",
    "obs": "zeroskip.pruning.obs:METHOD",
    "obs-fisher": "zeroskip.pruning.fisher:METHOD",
    "random": "zeroskip.pruning.random:METHOD",
    "relative-magnitude": "zeroskip.pruning.magnitude:RELATIVE",
    "set": "zeroskip.pruning.evolution:METHOD",
    "snip": "zeroskip.pruning.taylor:METHOD_SNIP",
    "snip-iterative": "zeroskip.pruning.taylor:METHOD_SNIP_ITERATIVE",
    "surgery": "zeroskip.pruning.surgery:METHOD",
    "synflow": "zeroskip.pruning.synflow:METHOD",
    "taylor": "zeroskip.pruning.taylor:METHOD_TAYLOR",
    "variational": "zeroskip.pruning.variational:METHOD",
}
ENTRY_POINTS: Final = "zeroskip.pruning"


def method_names() -> list[str]:
    """Every method there is, built in or installed, sorted."""
    return sorted({*METHODS, *_installed()})


def method(name: str) -> Method:
    """The method called `name`; built-in ones first. Raises InputError if there is none, or
    if an installed one cannot be loaded."""
    if name in METHODS:
        module, _, attribute = METHODS[name].partition(":")
        found: Any = getattr(import_module(module), attribute)
    elif name in (installed := _installed()):
        try:
            found = installed[name].load()
        except Exception as error:  # a plugin may fail in any way
            raise InputError(f"pruning method '{name}' cannot be loaded: {error}") from error
    else:
        raise InputError(f"no pruning method '{name}'; there are {', '.join(method_names())}")
    if not isinstance(found, Method):
        raise InputError(
            f"pruning method '{name}' is a {type(found).__name__}, not a zeroskip.pruning.Method"
        )
    return found


def attach(
    name: str,
    model: nn.Module,
    *,
    select: Select | None = None,
    exclude: Sequence[str] = (),
    seed: int = 0,
    data: Data | None = None,
    example: Tensor | None = None,
    **options: Any,
) -> Pruner:
    """Put a method to work on the selected weights of `model` (default: those of linear and
    convolution layers), changing it in place.

    `options` are the fields of the method's options class. Methods that aim at a sparsity also
    take `sparsity` and `steps`, the optimizer steps after which the masks are final, with
    defaults for the rest: a cubic schedule for those that follow one. Raises InputError.
    """
    found = method(name)
    made = settings(name, **options)
    chosen = targets(model, select, exclude)
    return found.attach(chosen, made, Context(model, chosen, seed, data, example))


def settings(name: str, **options: Any) -> Any:
    """What `attach` makes of its options for the method `name`: an instance of the method's
    options class. Raises InputError."""
    found = method(name)
    make: Any = found.options
    if hasattr(make, "for_run"):
        if "sparsity" in options and "steps" in options:
            if isinstance(options["sparsity"], Mapping):
                raise InputError(
                    f"pruning method '{name}' aims at one sparsity, not at one by layer"
                )
            make = partial(make.for_run, options.pop("sparsity"), options.pop("steps"))
        elif found.options is ScoredOptions and "schedule" not in options:
            raise InputError(f"pruning method '{name}' needs a schedule, or sparsity and steps")
    known = {f.name for f in fields(found.options)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f"pruning method '{name}' has no option '{unknown[0]}'; "
            f"there are {', '.join(sorted(known))}"
        )
    try:
        return make(**options)
    except TypeError as error:  # a required option is missing
        raise InputError(f"pruning method '{name}': {str(error).partition(') ')[2]}") from None


def prune(
    model: nn.Module,
    sparsity: float | Mapping[str, float],
    name: str = "magnitude",
    *,
    scope: str | None = None,
    iterations: int | None = None,
    invert: bool = False,
    select: Select | None = None,
    exclude: Sequence[str] = (),
    seed: int = 0,
    data: Data | None = None,
    example: Tensor | None = None,
) -> dict[str, Tensor]:
    """Prune `model` in place, without training, by the score of the method `name`; gives the
    masks, bool by parameter name.

    Exactly the number of weights that `scope` asks for (see scopes.py; default: the method's)
    are zero afterwards; the masks hold through any training that follows. Pruning again starts
    from the masks that are there, and brings nothing back. The density falls by the same factor
    in each of `iterations` rounds (default: the method's); with `invert` the highest scores go
    instead of the lowest.
    Second-order methods also change the weights that stay.

    `data` and `example` are what some methods look at; see Data and Context. Raises InputError.
    """
    found = method(name)
    if found.scorer is None:
        raise InputError(f"pruning method '{name}' works while training only; use attach")
    rounds = found.iterations if iterations is None else iterations
    if rounds < 1:
        raise InputError(f"iterations {rounds} must be at least 1")
    chosen = targets(model, select, exclude)
    context = Context(model, chosen, seed, data, example)
    wanted = scopes.check(sparsity, list(chosen), scope or found.scope)
    begun = masks_of(model, select, exclude)
    dense = {n: float(m.double().mean()) for n, m in begun.items()}
    if not isinstance(sparsity, Mapping):
        dense = dict.fromkeys(dense, 1 - zeros(begun) / sum(m.numel() for m in begun.values()))
    masks = begun
    for i in range(1, rounds + 1):
        now = {n: _between(dense[n], s, i / rounds) for n, s in wanted.items()}
        masks = cut(
            {n: t.value for n, t in chosen.items()},
            masks,
            now if isinstance(sparsity, Mapping) else next(iter(now.values())),
            scope or found.scope,
            context,
            found.scorer,
            found.compensate,
            invert=invert,
            exact=True,
        )
        set_masks(model, masks, select)
    return masks


def _between(density: float, sparsity: float, share: float) -> float:
    """The sparsity after `share` of the rounds, by equal factors of the density."""
    if share == 1 or density == 0:
        return sparsity
    return float(1 - density * ((1 - sparsity) / density) ** share)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
