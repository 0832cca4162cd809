"""Magnitude pruning: the weights nearest to zero go.

Han, Pool, Tran and Dally, "Learning both weights and connections" (2015); with the cubic
schedule Zhu and Gupta, "To prune, or not to prune" (2017).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from zeroskip.pruning.base import Context, scored


def magnitude(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """|w|."""
    return {name: weight.abs() for name, weight in weights.items()}


def relative_magnitude(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """|w| over the root mean square of its layer, so that under a global scope no layer goes
    because its weights are small as a whole."""
    return {
        name: weight.abs() / weight.double().pow(2).mean().sqrt().clamp_min(1e-30).to(weight.dtype)
        for name, weight in weights.items()
    }


METHOD = scored(
    "magnitude", "the smallest magnitudes", "Han et al. 2015, Zhu and Gupta 2017", magnitude
)
GRADUAL = scored(
    "gradual",
    "the smallest magnitudes, more and more of them along a cubic schedule",
    "Zhu and Gupta 2017",
    magnitude,
    stages=("during",),
)
RELATIVE = scored(
    "relative-magnitude",
    "the smallest magnitudes relative to their layer's root mean square",
    "Han et al. 2015, scaled by layer",
    relative_magnitude,
)
