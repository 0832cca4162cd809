"""Derivatives of the loss by the weights that the model computes with, for scorers.

All of them leave the model as it was: modes, buffers (batch-norm statistics) and `.grad`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zeroskip.errors import InputError
from zeroskip.pruning.base import Batch, Context


@contextmanager
def kept(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or in evaluation mode, with gradients on; as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    model.train(training)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def batches(context: Context, method: str) -> Iterator[Batch]:
    """The batches of the context's data. Raises InputError if there are none."""
    found = False
    for values, labels in context.need_data(method).batches():
        found = True
        yield values, labels
    if not found:
        raise InputError(f"pruning method '{method}': the data hold no batch")


def gradient(
    context: Context, method: str, *, training: bool, temperature: float = 1.0
) -> dict[str, Tensor]:
    """The sum over the batches of the gradient of the mean loss, outputs divided by
    `temperature`; zero at pruned weights. A batch counts by its size, the first one as 1."""
    total: dict[str, Tensor] = {}
    each = each_gradient(context, method, training=training, temperature=temperature)
    for found, share in each:
        total = {n: total[n] + share * g if total else g for n, g in found.items()}
    return total


def each_gradient(
    context: Context, method: str, *, training: bool, temperature: float = 1.0
) -> Iterator[tuple[dict[str, Tensor], float]]:
    """The gradient of the mean loss of each batch, outputs divided by `temperature`; and the
    batch's size over that of the first."""
    with kept(context.model, training=training):
        for batch, share in _shares(context, method):
            found = _gradient(context, batch, temperature)
            yield dict(zip(context.targets, found, strict=True)), share


def hessian_product(
    context: Context,
    vectors: dict[str, Tensor],
    method: str,
    *,
    training: bool,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """The sum over the batches of Hessian times vector (Pearlmutter 1994), by double
    differentiation; batches count as in `gradient`."""
    originals = [t.original for t in context.targets.values()]
    total = [torch.zeros_like(o) for o in originals]
    with kept(context.model, training=training):
        for batch, share in _shares(context, method):
            first = _gradient(context, batch, temperature, create_graph=True)
            inner = sum(
                ((vectors[n] * g).sum() for n, g in zip(context.targets, first, strict=True)),
                torch.zeros(()),
            )
            for sum_, part in zip(total, by(inner, originals), strict=True):
                sum_ += share * part
    return dict(zip(context.targets, total, strict=True))


def _shares(context: Context, method: str) -> Iterator[tuple[Batch, float]]:
    """The batches, with their size over that of the first."""
    first = 0
    for batch in batches(context, method):
        first = first or len(batch[0])
        yield batch, len(batch[0]) / first


def _gradient(
    context: Context, batch: Batch, temperature: float, create_graph: bool = False
) -> list[Tensor]:
    data = context.data
    assert data is not None
    loss = data.criterion(context.model(batch[0]) / temperature, batch[1])
    return by(loss, [t.original for t in context.targets.values()], create_graph)


def by(value: Tensor, originals: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    """The derivative of the scalar `value` by each of `originals`, in their shapes and dtypes;
    zero where there is none. Raises InputError for frozen weights."""
    try:
        found = torch.autograd.grad(
            value, originals, create_graph=create_graph, materialize_grads=True, allow_unused=True
        )
    except RuntimeError as error:
        line = str(error).partition("\n")[0]
        raise InputError(f"the model cannot be differentiated by its weights: {line}") from error
    return list(found)
