"""Random pruning: the control that every other method has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zeroskip.pruning.base import Context, scored


def uniform(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """U(0, 1) per weight, the same for the same seed on every device."""
    generator = torch.Generator().manual_seed(context.seed)
    return {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in weights.items()
    }


METHOD = scored("random", "random weights, as a control", "-", uniform)
