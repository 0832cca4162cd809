"""The metrics of ShrinkBench (Blalock et al. 2020, "What is the state of neural network
pruning?", section 6), and what a microcontroller makes of the network.

Multiply-adds are counted from the shapes of the outputs that the layers give, so that padding,
strides, groups and dilation need no rules of their own. (ShrinkBench's counter takes "valid"
convolutions for padded ones.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from zeroskip.compression.samples import Samples
from zeroskip.compression.training import scored
from zeroskip.pruning.targets import LAYERS, every_tensor


@dataclass(frozen=True)
class Size:
    """Of a network as it computes, masks applied.

    parameters, nonzero: all parameters, biases and batch-norm included.
    flops, flops_nonzero: multiply-adds of linear and convolution layers for one input, and those
        with a weight that is not zero.
    """

    parameters: int
    nonzero: int
    flops: int
    flops_nonzero: float

    @property
    def compression(self) -> float:
        """All parameters over those that are not zero."""
        return self.parameters / max(1, self.nonzero)

    @property
    def speedup(self) -> float:
        """The theoretical one: multiply-adds over those that need doing."""
        return self.flops / max(1.0, self.flops_nonzero)


def size(model: nn.Module, example: Tensor) -> Size:
    """`example` is one input (1, ...)."""
    values = [target.value for target in every_tensor(model).values()]
    flops = multiply_adds(model, example)
    left = 0.0
    for module, count in flops.items():
        weight: Tensor = module.weight  # type: ignore[assignment]
        left += count * float((weight != 0).double().mean())
    return Size(
        sum(v.numel() for v in values),
        sum(int((v != 0).sum()) for v in values),
        sum(flops.values()),
        left,
    )


def multiply_adds(model: nn.Module, example: Tensor) -> dict[nn.Module, int]:
    """Per linear or convolution layer, for one input (1, ...), weights of zero included."""
    counts: dict[nn.Module, int] = {}

    def counted(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight: Tensor = module.weight  # type: ignore[assignment]
        transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
        # Each output (or, transposed, each input) position meets the weights of its channel once.
        places = prod(inputs[0].shape if transposed else output.shape)
        counts[module] = counts.get(module, 0) + places * prod(weight.shape[1:])

    hooks = [m.register_forward_hook(counted) for m in model.modules() if isinstance(m, LAYERS)]
    mode = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    return counts


def top(model: nn.Module, samples: Samples, ranks: tuple[int, ...]) -> list[float]:
    """For each of `ranks` the share of samples whose label is among that many best scores; 0..1."""
    hits = dict.fromkeys(ranks, 0)
    for scores, labels in scored(model, samples):
        most = min(max(ranks), scores.shape[1])
        found = scores.topk(most, 1).indices == labels[:, None]
        for rank in ranks:
            hits[rank] += int(found[:, :rank].any(1).sum())
    return [hits[rank] / len(samples) for rank in ranks]
