"""TFLite front end: a .tflite file becomes a Graph.

The file is untrusted: whatever its bytes are, the result is a well-formed Graph or a
ModelError (UnsupportedError for what zeroskip does not implement), and memory stays in
proportion to the file. Semantics are those of TFLite's reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from zeroskip.converters.frontends import tflite_ops, tflite_shapes
from zeroskip.converters.frontends.tflite_arguments import RESHAPING, Consumers
from zeroskip.converters.frontends.tflite_builder import Builder, describe
from zeroskip.converters.frontends.tflite_reader import SourceModel, SourceOperator, read
from zeroskip.converters.frontends.tflite_weights import fold_constants
from zeroskip.converters.ir import Graph
from zeroskip.errors import ModelError, UnsupportedError

Translator = Callable[[Builder, SourceOperator, Consumers], None]

TRANSLATORS: Final[dict[str, Translator]] = {
    "ADD": tflite_ops.binary,
    "AVERAGE_POOL_2D": tflite_ops.pooling,
    "CONCATENATION": tflite_shapes.concatenation,
    "CONV_2D": tflite_ops.convolution,
    "DEPTHWISE_CONV_2D": tflite_ops.convolution,
    "DEQUANTIZE": tflite_ops.quantize,
    "EXPAND_DIMS": tflite_shapes.reshape,
    "FULLY_CONNECTED": tflite_ops.fully_connected,
    "LEAKY_RELU": tflite_ops.unary,
    "LOGISTIC": tflite_ops.unary,
    "MAX_POOL_2D": tflite_ops.pooling,
    "MEAN": tflite_shapes.mean,
    "MUL": tflite_ops.binary,
    "PAD": tflite_shapes.pad,
    "PADV2": tflite_shapes.pad,
    "QUANTIZE": tflite_ops.quantize,
    "RELU": tflite_ops.unary,
    "RELU6": tflite_ops.unary,
    "RELU_N1_TO_1": tflite_ops.unary,
    "RESHAPE": tflite_shapes.reshape,
    "SOFTMAX": tflite_ops.softmax,
    "SQUEEZE": tflite_shapes.reshape,
    "SUB": tflite_ops.binary,
    "TANH": tflite_ops.unary,
    "TRANSPOSE": tflite_shapes.transpose,
}

# Operators that may read a constant as their first input.
CONSTANT_OPERANDS: Final = ("ADD", "MUL", "SUB")


def load(path: Path | bytes, name: str | None = None) -> Graph:
    """The graph of a .tflite file, or of its bytes.

    Args:
        path: the file, or its content.
        name: what the graph is called; by default the file's name without suffix, or "model".

    Raises:
        ModelError: the file is malformed.
        UnsupportedError: it holds an operator, dtype or shape that is not supported.
        OSError: the file cannot be read.
    """
    if isinstance(path, bytes):
        data, title = path, name or "model"
    else:
        data, title = Path(path).read_bytes(), name or Path(path).stem
    model = fold_constants(read(data, title))
    operators = _live(model)
    _check_supported(model, operators)
    builder = Builder(model, title)
    if len(set(model.inputs)) != len(model.inputs):
        raise ModelError(f"{title}: an input is listed twice")
    for index in model.inputs:
        builder.add_input(index)
    consumers = Consumers(model, operators)
    for operator in operators:
        builder.where = describe(operator, model)
        TRANSLATORS[operator.kind](builder, operator, consumers)
    for index in model.outputs:
        builder.add_output(index)
    builder.where = title
    return builder.graph()


def _live(model: SourceModel) -> tuple[SourceOperator, ...]:
    """The operators that the outputs depend on.

    The shape arguments of reshaping operators do not count: Keras computes them with chains of
    SHAPE, STRIDED_SLICE and PACK, and the result is known from the output.
    """
    needed = set(model.outputs)
    kept = []
    for operator in reversed(model.operators):
        if needed.isdisjoint(operator.outputs):
            continue
        kept.append(operator)
        inputs = operator.inputs
        needed.update(inputs[:1] if operator.kind in RESHAPING else inputs)
    return tuple(reversed(kept))


def _check_supported(model: SourceModel, operators: tuple[SourceOperator, ...]) -> None:
    for operator in operators:
        where = describe(operator, model)
        if operator.kind not in TRANSLATORS:
            raise UnsupportedError(
                f"{where} is not supported; supported are " + ", ".join(sorted(TRANSLATORS))
            )
        if len(operator.outputs) != 1 or not operator.inputs or operator.inputs[0] < 0:
            raise ModelError(f"{where}: needs an input and exactly one output")
        first = model.tensors[operator.inputs[0]]
        if first.data is not None and operator.kind not in CONSTANT_OPERANDS:
            raise UnsupportedError(f"{where}: input '{first.name}' is a constant")
