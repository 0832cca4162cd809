"""Ablations of pruning (Frankle et al. 2021, "Pruning neural networks at initialization: why are
we missing the mark?", section 5). The third, inversion, is `prune(..., invert=True)`.

A method that chooses weights, and not only how many of each layer, must lose by `shuffled` and
by `reinitialise`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from zeroskip.errors import InputError
from zeroskip.pruning.masks import bake
from zeroskip.pruning.targets import every_tensor

ABLATIONS: Final = ("none", "shuffle", "reinitialise", "invert")


def shuffled(masks: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Each mask with its zeros moved at random within the tensor; same counts."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, mask in masks.items():
        order = torch.randperm(mask.numel(), generator=generator).to(mask.device)
        result[name] = mask.flatten()[order].view(mask.shape)
    return result


def reinitialise(model: nn.Module, seed: int, make: Callable[[], nn.Module] | None = None) -> None:
    """Draw all parameters and buffers afresh, in place; masks stay.

    From `make()`, a new model of the same kind, or else by the modules' own reset_parameters.
    Raises InputError where a module with parameters has none.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = copy.deepcopy(model) if make is None else make()
        bake(fresh, lambda name, module: True)
        if make is None:
            _reset(fresh)
    place(model, fresh)


def place(model: nn.Module, source: nn.Module) -> None:
    """Copy parameters and buffers of `source`, which has no parametrizations, into `model`, under
    its masks. Raises InputError if they are not of one kind."""
    values = {**dict(source.named_parameters()), **dict(source.named_buffers())}
    with torch.no_grad():
        for name, target in every_tensor(model).items():
            value = values.get(name)
            if value is None or value.shape != target.original.shape:
                raise InputError(f"the new model has no '{name}' of the old one's shape")
            target.original.copy_(value)
        for name, buffer in model.named_buffers():
            if name in values:
                buffer.copy_(values[name])


def _reset(model: nn.Module) -> None:
    for path, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            raise InputError(
                f"'{path or type(model).__name__}' has parameters but no reset_parameters(); "
                "pass make, which gives a new model"
            )
