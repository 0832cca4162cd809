"""ExactOBS: Optimal Brain Surgeon layer by layer.

Frantar and Alistarh 2022, "Optimal brain compression", section 4: the curvature of a layer's
squared output error is 2 X X^T, X its inputs; it is the same for all outputs, whose rows of
weights are pruned one weight at a time. Which weights of which rows go is decided over the losses
of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from zeroskip.errors import InputError
from zeroskip.pruning.base import Context, scored
from zeroskip.pruning.gradients import batches, kept
from zeroskip.pruning.surgeon import greedy_losses, refitted
from zeroskip.pruning.targets import Target

DAMPING: Final = 0.01  # of the mean of the diagonal


def curvatures(context: Context) -> dict[str, tuple[Tensor, Tensor]]:
    """H = 2 X X^T / images of each layer, (groups, n, n), float64: n weights make an output; and
    which inputs are always 0, (groups, n).

    Those get H_ii = 1, as in the official code, which takes their weights for 0; DAMPING is added
    to the others.
    """
    sums: dict[str, Tensor] = {}
    hooks = []
    for name, target in context.targets.items():

        def gather(
            module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name
        ) -> None:
            x = _columns(name, module, inputs[0].detach())
            sums[name] = sums.get(name, 0) + x @ x.mT

        hooks += [module.register_forward_hook(gather) for module, _ in target.places]
    count = 0
    try:
        with kept(context.model, training=False), torch.no_grad():
            for values, _ in batches(context, "exact-obs"):
                context.model(values)
                count += len(values)
    finally:
        for hook in hooks:
            hook.remove()
    result = {}
    for name in context.targets:
        if name not in sums:
            raise InputError(
                f"exact-obs: '{name}' is not the weight of a layer that the model calls (exported "
                "programs have none); prune the module, or use obs-fisher"
            )
        h = 2 * sums[name] / count
        diagonal = h.diagonal(dim1=1, dim2=2)
        dead = diagonal == 0
        diagonal += DAMPING * diagonal.mean(1, keepdim=True)
        diagonal.masked_fill_(dead, 1.0)
        result[name] = h, dead
    return result


def _columns(name: str, module: nn.Module, x: Tensor) -> Tensor:
    """What the rows of weights meet: (groups, n, places), float64."""
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1]).T.double()[None]
    if not isinstance(module, nn.Conv2d):
        raise InputError(
            f"exact-obs: '{name}' is of a {type(module).__name__}; only Linear and Conv2d layers "
            "can be pruned by it"
        )
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(x, module._reversed_padding_repeated_twice, mode)
    columns = functional.unfold(
        padded, module.kernel_size, module.dilation, 0, module.stride
    )  # fmt: skip
    n = columns.shape[1] // module.groups
    return columns.movedim(0, 1).reshape(module.groups, n, -1).double()


def exact_obs(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """The loss at which a weight goes, in its row's order of removal."""
    found = curvatures(context)
    context.scratch["curvatures"] = found
    result = {}
    for name, weight in weights.items():
        parts = []
        for rows, h, dead in _groups(weight, context.targets[name], found[name]):
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(h)).to(weight.dtype)
            parts.append(greedy_losses(rows.masked_fill(dead, 0), inverse))
        result[name] = torch.cat(parts).view(weight.shape)
    return result


def update(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], context: Context
) -> dict[str, Tensor]:
    """Each row becomes the least-squares fit by what is left of it, at which removal one by one
    ends, too."""
    found = context.scratch["curvatures"]
    result = {}
    for name, weight in weights.items():
        gone = (~masks[name]).reshape(len(weight), -1)
        done: list[Tensor] = []
        for rows, h, _ in _groups(weight, context.targets[name], found[name]):
            first = sum(len(part) for part in done)  # rows of the groups before
            fitted = [refitted(row.double(), h, gone[first + i]) for i, row in enumerate(rows)]
            done.append(torch.stack(fitted))
        result[name] = torch.cat(done).view(weight.shape).to(weight.dtype)
    return result


def _groups(
    weight: Tensor, target: Target, found: tuple[Tensor, Tensor]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows (outputs, n) of each group of a layer, their curvature and dead inputs."""
    rows = weight.reshape(len(weight), -1)
    groups = int(getattr(target.module, "groups", 1))
    return zip(rows.chunk(groups), *found, strict=True)


METHOD = scored(
    "exact-obs",
    "optimal brain surgeon layer by layer, on the squared error of each layer's outputs",
    "Frantar and Alistarh 2022",
    exact_obs,
    stages=("after",),
    needs_data=True,
    compensate=update,
)
