"""Reading a TFLite operator's arguments: inputs, options, and who reads its output."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from zeroskip.converters.frontends.tflite_builder import Builder, is_spatial
from zeroskip.converters.frontends.tflite_reader import SourceModel, SourceOperator, SourceTensor
from zeroskip.converters.ir import NO_CLAMP, RELU, RELU6, RELU_N1_TO_1, Array, Clamp

VALID: Final = 1  # of the Padding enumeration
ACTIVATIONS: Final = {0: NO_CLAMP, 1: RELU, 2: RELU_N1_TO_1, 3: RELU6}
ACTIVATION_NAMES: Final = {4: "TANH", 5: "SIGN_BIT"}
RESHAPING: Final = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


class Consumers:
    """Which operators read a tensor."""

    def __init__(self, model: SourceModel, operators: tuple[SourceOperator, ...]) -> None:
        self.model = model
        self._readers: dict[int, list[SourceOperator]] = {}
        for operator in operators:
            inputs = operator.inputs[:1] if operator.kind in RESHAPING else operator.inputs
            for index in set(inputs):
                self._readers.setdefault(index, []).append(operator)

    def only_whole_rows(self, index: int) -> bool:
        """Whether all that becomes of a tensor is one row of a fully connected layer each time,
        so that its elements may be permuted together with the weights' columns."""
        pending, seen = [index], set()
        while pending:
            current = pending.pop()
            seen.add(current)
            readers = self._readers.get(current, [])
            if current in self.model.outputs or not readers:
                return False
            size = math.prod(self.model.tensors[current].shape)
            for reader in readers:
                if reader.kind in RESHAPING and reader.outputs[0] not in seen:
                    pending.append(reader.outputs[0])
                elif not (
                    reader.kind == "FULLY_CONNECTED"
                    and reader.inputs.count(current) == 1
                    and reader.inputs[0] == current
                    and len(reader.inputs) > 1
                    and self.model.tensors[reader.inputs[1]].shape[1:] == (size,)
                ):
                    return False
        return True


# --- reading arguments ------------------------------------------------------------------------


def argument(b: Builder, operator: SourceOperator, position: int) -> SourceTensor:
    if position >= len(operator.inputs) or operator.inputs[position] < 0:
        raise b.malformed(f"input {position} is missing")
    return b.source(operator.inputs[position])


def integers(b: Builder, operator: SourceOperator, position: int) -> Array:
    tensor = argument(b, operator, position)
    if tensor.data is None or tensor.dtype not in ("int32", "int64"):
        raise b.unsupported(f"input {position} ('{tensor.name}') must be a constant of integers")
    return tensor.data.astype(np.int64)


def clamp(b: Builder, operator: SourceOperator) -> Clamp:
    code = operator.options.get("FusedActivationFunction", 0)
    if code not in ACTIVATIONS:
        raise b.unsupported(
            f"fused activation {ACTIVATION_NAMES.get(code, code)}; "
            "supported are NONE, RELU, RELU_N1_TO_1, RELU6"
        )
    return ACTIVATIONS[code]


def option(b: Builder, operator: SourceOperator, name: str, low: int, high: int) -> int:
    value = operator.options.get(name)
    if not isinstance(value, int) or not low <= value <= high:
        raise b.malformed(f"option {name} is {value}, must be {low} to {high}")
    return value


def same_dtypes(b: Builder, operator: SourceOperator, count: int = 1) -> None:
    """The first `count` inputs and the output must have one dtype."""
    output = b.source(operator.outputs[0])
    for position in range(count):
        tensor = argument(b, operator, position)
        if tensor.dtype != output.dtype:
            raise b.unsupported(
                f"input '{tensor.name}' is {tensor.dtype}, the output {output.dtype}; "
                "supported is one dtype throughout"
            )


def same_shapes(b: Builder, operator: SourceOperator) -> tuple[int, int]:
    """(input, output) of an element-wise operator."""
    x, output = operator.inputs[0], operator.outputs[0]
    if b.source(x).shape != b.source(output).shape:
        raise b.malformed(
            f"input {list(b.source(x).shape)} and output {list(b.source(output).shape)} "
            "must have one shape"
        )
    return x, output


def spatial_input(b: Builder, operator: SourceOperator) -> tuple[int, int]:
    """(input, output) of an operator over height and width."""
    x, output = operator.inputs[0], operator.outputs[0]
    for index in (x, output):
        tensor = b.source(index)
        if not is_spatial(tensor.shape):
            raise b.unsupported(
                f"tensor '{tensor.name}' of shape {list(tensor.shape)}; "
                "supported are (1, height, width, channels)"
            )
    return x, output
