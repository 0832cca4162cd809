"""GraSP: keep the gradient flow (Wang, Zhang and Grosse 2020).

The effect of removing a weight on the norm of the gradient is -theta * Hg (equation 8). The
paper's text removes the bottom p of that score; the official code and its published results
remove the top, those whose removal raises the gradient flow most, and so does this. `invert`
gives the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from zeroskip.pruning.base import Context, scored
from zeroskip.pruning.gradients import gradient, hessian_product

TEMPERATURE: Final = 200.0  # the official code divides the logits by it


def hessian_gradient(context: Context, temperature: float = TEMPERATURE) -> dict[str, Tensor]:
    """Hg (algorithm 2), both summed over the batches as in the official code; training mode."""
    first = gradient(context, "grasp", training=True, temperature=temperature)
    return hessian_product(context, first, "grasp", training=True, temperature=temperature)


def grasp(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """theta * Hg, whose lowest are the highest of -theta * Hg."""
    found = hessian_gradient(context)
    return {name: weights[name] * found[name] for name in weights}


def grasp_magnitude(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """|theta * Hg| (Frankle et al. 2021, appendix H)."""
    return {name: score.abs() for name, score in grasp(weights, context).items()}


METHOD = scored(
    "grasp",
    "the weights whose removal harms the gradient flow stay",
    "Wang, Zhang and Grosse 2020",
    grasp,
    stages=("before",),
    needs_data=True,
)
MAGNITUDE = scored(
    "grasp-magnitude",
    "the weights that matter most to the gradient flow, either way, stay",
    "Frankle et al. 2021, appendix H",
    grasp_magnitude,
    stages=("before",),
    needs_data=True,
)
