"""Which tensors of a module can be pruned or shared, under which names.

A name is that of the parameter as the user wrote the module, e.g. "fc1.weight", whether or not
parametrizations (masks, shared weights) have been registered on it since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from zeroskip.errors import InputError

# (full parameter name, the module that holds it) -> whether to take it.
Select = Callable[[str, nn.Module], bool]
_Value = TypeVar("_Value")

LAYERS: Final = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Target:
    """One tensor, which `attribute` of `module` is; `aliases` are modules tied to it."""

    name: str
    module: nn.Module
    attribute: str
    aliases: tuple[tuple[nn.Module, str], ...] = ()

    @property
    def value(self) -> Tensor:
        """The tensor that the module computes with now, parametrizations applied; detached."""
        with torch.no_grad():
            value: Tensor = getattr(self.module, self.attribute)
            return value.detach()

    @property
    def parametrizations(self) -> ParametrizationList | None:
        return parametrizations_of(self.module, self.attribute)

    @property
    def original(self) -> Tensor:
        """What the optimizer trains: the parameter under the parametrizations, if any.

        Raises InputError where there are several, as with weight normalisation.
        """
        chain = self.parametrizations
        if chain is None:
            value: Tensor = getattr(self.module, self.attribute)
            return value
        if not chain.is_tensor:
            raise InputError(
                f"'{self.name}' is computed from several tensors; "
                "call torch.nn.utils.parametrize.remove_parametrizations on it first"
            )
        return chain.original

    @property
    def channel_axis(self) -> int:
        """The axis of the output channels: 0, or 1 for transposed convolutions."""
        return 1 if isinstance(self.module, _TRANSPOSED) else 0

    @property
    def places(self) -> tuple[tuple[nn.Module, str], ...]:
        """Every (module, attribute) that this tensor is seen through."""
        return ((self.module, self.attribute), *self.aliases)


def parametrizations_of(module: nn.Module, attribute: str) -> ParametrizationList | None:
    if not is_parametrized(module, attribute):
        return None
    lists = module.parametrizations
    assert isinstance(lists, nn.ModuleDict)
    chain = lists[attribute]
    assert isinstance(chain, ParametrizationList)
    return chain


def layer_weights(name: str, module: nn.Module) -> bool:
    """The default selection: the weights of linear and convolution layers, no biases."""
    return isinstance(module, LAYERS) and name.rpartition(".")[2] == "weight"


def targets(
    model: nn.Module, select: Select | None = None, exclude: Sequence[str] = ()
) -> dict[str, Target]:
    """The tensors that `select` takes (default: `layer_weights`), by name, in module order.

    `exclude` holds names or patterns, of parameters ("fc3.weight") or modules ("fc3", "head.*").
    A tensor used by several modules is listed once, under its first name. Raises InputError for
    a pattern that matches nothing, for a tensor that is not floating point, or if nothing is
    selected.
    """
    take = select or layer_weights
    found: dict[int, Target] = {}
    unmatched = set(exclude)
    for name, module, attribute in _tensors(model):
        hits = {p for p in exclude if _matches(name, p)}
        unmatched -= hits
        if hits or not take(name, module):
            continue
        target = Target(name, module, attribute)
        if not target.value.is_floating_point():
            raise InputError(f"'{name}' is {target.value.dtype}; only floats can be pruned")
        key = _identity(module, attribute)
        if key in found:
            first = found[key]
            if any(m is module and a == attribute for m, a in first.places):
                continue  # one module in two places
            target = Target(
                first.name, first.module, first.attribute, (*first.aliases, (module, attribute))
            )
        found[key] = target
    if unmatched:
        raise InputError(f"exclude: '{min(unmatched)}' matches no parameter of the model")
    if not found:
        raise InputError(f"{type(model).__name__} has no weights that were selected for this")
    return {target.name: target for target in found.values()}


def every_tensor(model: nn.Module) -> dict[str, Target]:
    """All parameters, whatever their kind, as targets."""
    found: dict[str, Target] = {}
    seen: set[int] = set()
    for name, module, attribute in _tensors(model):
        key = _identity(module, attribute)
        if key not in seen:
            found[name] = Target(name, module, attribute)
        seen.add(key)
    return found


def first_names(model: nn.Module) -> dict[str, str]:
    """Under which name a tensor is listed, by each of its names; tied tensors have several."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(_identity(module, attribute), name)
        for name, module, attribute in _tensors(model)
    }


def resolve(
    given: _Value | Mapping[str, _Value], names: Sequence[str], what: str
) -> dict[str, _Value]:
    """One value per name, from one value for all or a mapping by parameter or module name.

    Raises InputError for a name that is not there and for names without a value.
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    result: dict[str, _Value] = {}
    for key, value in given.items():
        hits = [n for n in names if _matches(n, key)]
        if not hits:
            raise InputError(f"{what}: no weights '{key}'; there are {', '.join(names)}")
        result.update(dict.fromkeys(hits, value))
    missing = [n for n in names if n not in result]
    if missing:
        raise InputError(f"{what}: nothing given for '{missing[0]}'")
    return {name: result[name] for name in names}


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)


def _identity(module: nn.Module, attribute: str) -> int:
    """Equal for tied tensors, with or without parametrizations."""
    chain = parametrizations_of(module, attribute)
    if chain is None:
        return id(getattr(module, attribute))
    return id(chain.original if chain.is_tensor else chain.original0)


def _tensors(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module, str]]:
    for attribute, parameter in module._parameters.items():
        if parameter is not None:
            yield prefix + attribute, module, attribute
    lists = getattr(module, "parametrizations", None) if is_parametrized(module) else None
    if isinstance(lists, nn.ModuleDict):
        for attribute in lists:
            yield prefix + attribute, module, attribute
    for name, child in module.named_children():
        if child is not lists:
            yield from _tensors(child, f"{prefix}{name}.")
