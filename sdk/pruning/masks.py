"""Masks: torch parametrizations that hold weights at exactly zero.

The module computes with where(mask, original, 0), so the zeros hold whatever an optimizer does
to `original` (momentum, weight decay), and survive deepcopy, state_dict and torch.export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from zeroskip.errors import InputError
from zeroskip.pruning.targets import Select, Target, first_names, parametrizations_of, targets

_MASK_KEY = ".mask"


class Mask(nn.Module):
    """Parametrization: keeps the weights where the bool buffer `mask` is true.

    With `dense_gradient` the gradient reaches the pruned weights too, as if the mask were not
    there, so that they keep learning and may come back (dynamic network surgery).
    """

    mask: Tensor

    def __init__(self, mask: Tensor, dense_gradient: bool = False) -> None:
        super().__init__()
        self.register_buffer("mask", mask.detach().clone().bool())
        self.dense_gradient = dense_gradient

    def forward(self, weight: Tensor) -> Tensor:
        if self.dense_gradient and torch.is_grad_enabled():
            pruned = weight - weight.detach()  # exactly 0, with a gradient of 1
        else:
            pruned = weight.new_zeros(())
        return torch.where(self.mask, weight, pruned)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    def extra_repr(self) -> str:
        return f"{list(self.mask.shape)}, {int((~self.mask).sum())} zeros"


def mask_of(target: Target) -> Mask | None:
    """The mask on a tensor; the last one if several were registered."""
    chain = target.parametrizations
    found = [p for p in chain if isinstance(p, Mask)] if chain is not None else []
    return found[-1] if found else None


def masks_of(
    model: nn.Module, select: Select | None = None, exclude: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Bool masks by parameter name; all true where nothing was pruned."""
    result = {}
    for name, target in targets(model, select, exclude).items():
        mask = mask_of(target)
        result[name] = torch.ones_like(target.value, dtype=torch.bool) if mask is None else (
            mask.mask.clone()
        )  # fmt: skip
    return result


def set_masks(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    select: Select | None = None,
    *,
    dense_gradient: bool = False,
) -> None:
    """Prune: register masks by parameter name, or change those that are there.

    The parameters keep their identity, so optimizers made before go on working. `masks` are
    bool or 0/1 tensors of the weights' shapes. Raises InputError for a name or shape that does
    not fit, leaving the model as it was.
    """
    chosen = _chosen(model, masks, select)
    for target, mask in chosen:
        if tuple(mask.shape) != tuple(target.value.shape):
            raise InputError(
                f"the mask of '{target.name}' has shape {list(mask.shape)}, "
                f"its weights {list(target.value.shape)}"
            )
    for target, mask in chosen:
        put_mask(target, mask, dense_gradient)


def put_mask(target: Target, mask: Tensor, dense_gradient: bool = False) -> Mask:
    """Register or change the mask of one tensor and of those tied to it."""
    present = mask_of(target)
    if present is not None:
        present.mask.copy_(mask.to(present.mask.device).bool())
        present.dense_gradient = dense_gradient
        return present
    made = Mask(mask.to(target.value.device), dense_gradient)
    for module, attribute in target.places:
        register_parametrization(module, attribute, made)
    return made


def bake(model: nn.Module, select: Select | None = None) -> None:
    """Make the pruning permanent: masked tensors become plain parameters with zeros in them.

    All parametrizations of a masked tensor are removed; what the module computes stays the
    same. Training it further moves the zeros.
    """
    for target in targets(model, select).values():
        if mask_of(target) is not None:
            bake_target(target)


def bake_target(target: Target) -> None:
    """Replace a tensor's parametrizations by the value they give, as a parameter."""
    trainable = target.parametrizations is None or any(
        p.requires_grad for p in target.parametrizations.parameters()
    )
    for module, attribute in target.places:
        if parametrizations_of(module, attribute) is None:
            continue
        _own_class(module)
        remove_parametrizations(module, attribute, leave_parametrized=True)
        value = getattr(module, attribute)
        if not isinstance(value, nn.Parameter):  # torch makes a buffer of what has no gradient
            delattr(module, attribute)
            setattr(module, attribute, nn.Parameter(value.detach(), requires_grad=trainable))
    first = getattr(target.module, target.attribute)
    for module, attribute in target.aliases:
        setattr(module, attribute, first)


def _own_class(module: nn.Module) -> None:
    """Part a parametrized module's class from that of its deep copies.

    torch makes a class per module, whose property is the parametrized tensor; copies share it,
    and removing the parametrization from one of them would take the tensor from all.
    """
    shared = type(module)
    content = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, content)


def load_masks(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give an unpruned model the masks of which `state` (a state_dict) tells, so that
    `model.load_state_dict(state)` fits. Raises InputError where `state` is of another model."""
    found: dict[str, Tensor] = {}
    first = first_names(model)
    for key, value in state.items():
        path, separator, rest = key.partition("parametrizations.")
        if separator and key.endswith(_MASK_KEY):
            name = path + rest.split(".")[0]
            found[first.get(name, name)] = value
    if found:
        set_masks(model, found, lambda name, module: True)


def sparsity(model: nn.Module, select: Select | None = None, exclude: Sequence[str] = ()) -> float:
    """The fraction of exact zeros among the selected weights as the model computes; 0..1."""
    values = [t.value for t in targets(model, select, exclude).values()]
    return sum(int((v == 0).sum()) for v in values) / max(1, sum(v.numel() for v in values))


def zeros(masks: Mapping[str, Tensor]) -> int:
    """How many weights are pruned."""
    return sum(int((~mask).sum()) for mask in masks.values())


def _chosen(
    model: nn.Module, masks: Mapping[str, Tensor], select: Select | None
) -> list[tuple[Target, Tensor]]:
    present = targets(model, select)
    unknown = [name for name in masks if name not in present]
    if unknown:
        raise InputError(f"no weights '{unknown[0]}' to mask; there are {', '.join(present)}")
    return [(present[name], mask) for name, mask in masks.items()]
