"""First-order saliencies: what the loss would change by if a weight were zero.

SNIP (Lee, Ajanthan and Torr 2019) at initialisation, gradient magnitude (Blalock et al. 2020)
and the Taylor criterion (Molchanov et al. 2019) on trained networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from zeroskip.pruning.base import Batch, Context, scored
from zeroskip.pruning.gradients import each_gradient, gradient

SNIP_ROUNDS: Final = 100
MINIBATCH: Final = 10


def snip(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """|w dL/dw|: the connection sensitivity (equation 6) without its normalisation, which no
    ranking depends on. In training mode, as the official code does; of weights only, while that
    code masks biases too."""
    found = gradient(context, "snip", training=True)
    return {name: (weights[name] * found[name]).abs() for name in weights}


def gradient_magnitude(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """|w dL/dw| of the loss over all the data, in evaluation mode: the network as it is used."""
    found = gradient(context, "gradient-magnitude", training=False)
    return {name: (weights[name] * found[name]).abs() for name in weights}


def taylor(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """The mean over mini-batches of (w dL/dw)^2 (Molchanov et al. 2019, equation 8): gradients of
    opposite sign do not cancel out, as they do at the minimum of a trained network.

    Mini-batches have 10 samples, however the data come. (With 1 it would be twice the score of
    fisher-diagonal; with all of them the square of gradient-magnitude.)
    """
    data = context.need_data("taylor")

    def batches() -> Iterator[Batch]:
        for values, labels in data.batches():
            parts = (torch.split(tensor, MINIBATCH) for tensor in (values, labels))
            yield from zip(*parts, strict=True)

    context = replace(context, data=replace(data, batches=batches))
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for found, _ in each_gradient(context, "taylor", training=False):
        for name, part in found.items():
            total[name] += (weights[name] * part).square()
    return total


METHOD_SNIP = scored(
    "snip",
    "connection sensitivity |w dL/dw| at initialisation",
    "Lee, Ajanthan and Torr 2019",
    snip,
    stages=("before",),
    needs_data=True,
)
METHOD_SNIP_ITERATIVE = scored(
    "snip-iterative",
    f"connection sensitivity, {SNIP_ROUNDS} rounds with an exponential schedule",
    "Lee et al. 2019; Frankle et al. 2021, appendix",
    snip,
    stages=("before",),
    iterations=SNIP_ROUNDS,
    needs_data=True,
)
METHOD_GRADIENT = scored(
    "gradient-magnitude",
    "|w dL/dw| on a batch",
    "Blalock et al. 2020",
    gradient_magnitude,
    stages=("after",),
    needs_data=True,
)
METHOD_TAYLOR = scored(
    "taylor",
    "first-order Taylor expansion, squared, mean over batches",
    "Molchanov et al. 2019",
    taylor,
    stages=("after", "during"),
    needs_data=True,
)
