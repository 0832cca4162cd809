"""Optimal Brain Damage (LeCun, Denker and Solla 1989): saliency h_kk w_k^2 / 2.

h_kk is the second derivative of the loss by a weight; the terms off the diagonal are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zeroskip.pruning.base import Context, scored
from zeroskip.pruning.gradients import hessian_product
from zeroskip.pruning.per_sample import output_gradients, sample_count


def hessian_diagonal(context: Context) -> dict[str, Tensor]:
    """The diagonal of the generalised Gauss-Newton matrix of the mean loss, in evaluation mode.

    It is the diagonal of the Hessian itself wherever the outputs are piecewise linear in each
    single weight, as in networks of linear layers, convolutions, ReLU, pooling and batch-norm;
    elsewhere it leaves out the second derivatives of the outputs, as the paper does (section 3).
    """
    total = {name: torch.zeros_like(t.original) for name, t in context.targets.items()}
    for vectors in output_gradients(context, "obd"):
        for name, part in vectors.items():
            total[name] += part.square().sum(0).view(total[name].shape)
    count = sample_count(context, "obd")
    return {name: value / count for name, value in total.items()}


def exact_diagonal(context: Context) -> dict[str, Tensor]:
    """The diagonal of the Hessian of the mean loss by one Hessian-vector product per weight: for
    small networks, of any kind. The mean is over batches, which should be of one size."""
    data = context.need_data("obd")
    count = sum(1 for _ in data.batches())
    shapes = {name: t.original.shape for name, t in context.targets.items()}
    kind = next(iter(context.targets.values())).original
    result = {}
    for name, shape in shapes.items():
        diagonal = kind.new_zeros(shape.numel())
        for i in range(shape.numel()):
            unit = {n: kind.new_zeros(s) for n, s in shapes.items()}
            unit[name].view(-1)[i] = 1
            product = hessian_product(context, unit, "obd", training=False)
            diagonal[i] = product[name].flatten()[i] / count
        result[name] = diagonal.view(shape)
    return result


def obd(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """h_kk w_k^2 / 2."""
    found = hessian_diagonal(context)
    return {name: found[name] * weight.square() / 2 for name, weight in weights.items()}


METHOD = scored(
    "obd",
    "optimal brain damage: h w^2 / 2, h the diagonal second derivatives",
    "LeCun, Denker and Solla 1989",
    obd,
    stages=("after",),
    needs_data=True,
)
