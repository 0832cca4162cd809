"""SynFlow: pruning without data (Tanaka, Kunin, Yamins and Ganguli 2020).

The score of a weight is the sum over all paths through it of the product of their magnitudes:
|w| dR/d|w|, R the sum of the outputs of the network with all its weights and batch-norm scales
made positive, on an input of ones, in evaluation mode. It is conserved by layers and by neurons,
so that with enough rounds no layer loses its last weight before it must.

That needs R as the paper defines it, without biases (equation 4). The official code leaves them
in, made positive; then weights behind a bias keep a score when no path from the input is left,
and LeNet-300-100 with torch's biases loses a layer before it must (a test shows it).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from zeroskip.errors import InputError
from zeroskip.pruning.base import Context, scored
from zeroskip.pruning.gradients import by
from zeroskip.pruning.targets import Target, every_tensor, targets

ROUNDS: Final = 100
_SHIFTS: Final = ("bias", "running_mean")


def synflow(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """The synaptic flow through each weight, float64: deep networks exceed float32."""
    positive, chosen = _positive(context.model, context.targets)
    values = {name: weights[name].double().abs() for name in weights}
    flow = _flow(positive, _example(context))
    found = by(flow, [chosen[name].original for name in weights])
    return {name: values[name] * part.abs() for name, part in zip(weights, found, strict=True)}


def total_flow(model: nn.Module, example: Tensor) -> float:
    """R: zero where no path is left from the inputs to the outputs."""
    positive, _ = _positive(model, {})
    with torch.no_grad():
        return float(_flow(positive, example))


def _flow(positive: nn.Module, example: Tensor) -> Tensor:
    ones = torch.ones((1, *example.shape[1:]), dtype=torch.float64)
    with torch.enable_grad():
        result: Tensor = positive(ones).sum()
    if not bool(torch.isfinite(result)):
        raise InputError("synflow: the flow through the network is beyond the range of float64")
    return result


def _positive(
    model: nn.Module, chosen: Mapping[str, Target]
) -> tuple[nn.Module, dict[str, Target]]:
    """A copy in float64 with |.| of every parameter and buffer but shifts, which are 0; and the
    same targets in it."""
    made = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for tensor in (*made.parameters(), *made.buffers()):
            if tensor.is_floating_point():
                tensor.abs_()
        for target in every_tensor(made).values():
            if target.attribute in _SHIFTS:
                target.original.zero_()
        for name, tensor in made.named_buffers():
            if name.rpartition(".")[2] in _SHIFTS:
                tensor.zero_()
    names = set(chosen)
    if not names:
        return made, {}
    return made, targets(made, lambda name, module: name in names)


def _example(context: Context) -> Tensor:
    """An input, for its shape."""
    if context.example is not None:
        return context.example
    if context.data is not None:
        for values, _ in context.data.batches():
            return values
    raise InputError("pruning method 'synflow' needs an input's shape: pass example=inputs")


METHOD = scored(
    "synflow",
    f"synaptic flow, without data; {ROUNDS} rounds with an exponential schedule",
    "Tanaka, Kunin, Yamins and Ganguli 2020",
    synflow,
    stages=("before",),
    iterations=ROUNDS,
)
