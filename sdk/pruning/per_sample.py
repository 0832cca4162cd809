"""Derivatives sample by sample, for curvature: of the loss, and of each output.

All in evaluation mode: batch-norm would tie the samples to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, vmap

from zeroskip.errors import InputError
from zeroskip.pruning.base import Context
from zeroskip.pruning.gradients import batches, kept

_MOST_VALUES: Final = 1 << 25  # of derivatives at a time

Derivatives = dict[str, Tensor]


def loss_gradients(
    context: Context, method: str, names: Sequence[str] | None = None
) -> Iterator[Derivatives]:
    """Chunks of per-sample gradients of the loss: (samples, weights of the tensor) by name."""

    def of_sample(weights: Derivatives, value: Tensor, label: Tensor) -> Tensor:
        outputs = _outputs(context, names, weights, value)
        data = context.data
        assert data is not None
        return data.criterion(outputs[None], label[None])

    with kept(context.model, training=False):
        for values, labels in batches(context, method):
            yield from _chunks(context, method, names, of_sample, (values, labels))


def output_gradients(
    context: Context, method: str, names: Sequence[str] | None = None
) -> Iterator[Derivatives]:
    """Chunks of vectors X, (samples * outputs, weights) by name, of which the sum of X X^T over a
    sample is the generalised Gauss-Newton matrix of its loss: derivatives of the outputs, times a
    root of the criterion's Hessian by the outputs."""

    def of_output(weights: Derivatives, value: Tensor, factor: Tensor) -> Tensor:
        return (_outputs(context, names, weights, value) * factor).sum()

    with kept(context.model, training=False):
        for values, labels in batches(context, method):
            with torch.no_grad():
                outputs = context.model(values)
            factors = _roots(context, outputs, labels)  # (N, outputs, roots)
            count = factors.shape[2]
            repeated = values.repeat_interleave(count, 0)
            flat = factors.movedim(2, 1).reshape(len(repeated), -1)
            yield from _chunks(context, method, names, of_output, (repeated, flat))


def sample_count(context: Context, method: str) -> int:
    return sum(len(labels) for _, labels in batches(context, method))


def _roots(context: Context, outputs: Tensor, labels: Tensor) -> Tensor:
    """S (N, C, C) with S S^T = d^2 criterion / d outputs^2 of each sample."""
    data = context.data
    assert data is not None
    if outputs.ndim != 2:
        raise InputError(f"the model gives {list(outputs.shape)}, not (N, outputs)")

    def of_sample(output: Tensor, label: Tensor) -> Tensor:
        return data.criterion(output[None], label[None])

    curvature: Tensor = vmap(hessian(of_sample))(outputs.detach().double(), _like(labels))
    values, vectors = torch.linalg.eigh(curvature)
    roots: Tensor = vectors * values.clamp_min(0).sqrt()[:, None]
    return roots.to(outputs.dtype)


def _like(labels: Tensor) -> Tensor:
    return labels.double() if labels.is_floating_point() else labels


def _outputs(
    context: Context, names: Sequence[str] | None, weights: Derivatives, value: Tensor
) -> Tensor:
    keys = _keys(context, names)
    state = {keys[name]: weight for name, weight in weights.items()}
    outputs: Tensor = functional_call(context.model, state, (value[None],))
    return outputs[0]


def _keys(context: Context, names: Sequence[str] | None) -> dict[str, str]:
    """Target name -> name of its `original` among the model's parameters."""
    by_identity = {id(p): key for key, p in context.model.named_parameters()}
    chosen = context.targets if names is None else {n: context.targets[n] for n in names}
    return {name: by_identity[id(target.original)] for name, target in chosen.items()}


def _chunks(
    context: Context,
    method: str,
    names: Sequence[str] | None,
    function: Callable[[Derivatives, Tensor, Tensor], Tensor],
    samples: tuple[Tensor, Tensor],
) -> Iterator[Derivatives]:
    weights = {name: context.targets[name].original.detach() for name in _keys(context, names)}
    each: Any = vmap(grad(function), in_dims=(None, 0, 0))
    size = max(1, _MOST_VALUES // sum(w.numel() for w in weights.values()))
    for first, second in zip(*(torch.split(s, size) for s in samples), strict=True):
        try:
            found = each(weights, first, second)
        except RuntimeError as error:
            line = str(error).partition("\n")[0]
            raise InputError(
                f"pruning method '{method}' needs derivatives by sample, which this model "
                f"does not give: {line}"
            ) from error
        yield {name: part.detach().flatten(1) for name, part in found.items()}
