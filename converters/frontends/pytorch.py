"""PyTorch modules and .pt2 files, through torch.export.

The program is decomposed to core ATen operators (a few composite ones stay whole), what
depends on parameters and buffers alone is evaluated by torch at conversion time (so that
pruning masks and parametrizations arrive as plain constants with exact zeros), and every
other operator is translated by a handler of pytorch_ops.py.

torch is imported inside the functions, never with this module.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zeroskip.converters.frontends.pytorch_archive import read_archive
from zeroskip.converters.frontends.pytorch_graph import GraphBuilder, Value
from zeroskip.converters.frontends.pytorch_ops import HANDLERS, SUPPORTED, Call
from zeroskip.converters.ir import Array, Graph, Shape
from zeroskip.converters.passes.fold_batch_norm import fold_batch_norm
from zeroskip.converters.passes.simplify import simplify
from zeroskip.errors import InputError, MissingToolError, ModelError, UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node

    Source = torch.nn.Module | ExportedProgram | str | os.PathLike[str]
    Example = torch.Tensor | Array | Sequence[torch.Tensor | Array]

# Operators that core ATen takes apart, and that the graph has whole.
_KEPT_WHOLE: Final = (
    "adaptive_avg_pool2d.default", "hardswish.default", "linear.default", "prelu.default",
)  # fmt: skip
# Operators without tensor arguments that may make constants.
_CREATION: Final = frozenset(
    ("arange", "empty", "eye", "full", "linspace", "ones", "scalar_tensor", "zeros")
)
_IGNORED: Final = frozenset(
    ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")
)
_MAX_CONSTANT_ELEMENTS: Final = 1 << 26


def load(source: Source, example_inputs: Example | None = None, name: str | None = None) -> Graph:
    """Translate a PyTorch model to a float32 graph, batch-norm folded and simplified.

    `source` is an nn.Module (exported in eval mode and left as it was), an ExportedProgram, or
    the path of a .pt2 file made by torch.export.save. A module needs `example_inputs`: one
    float32 array per input, (N, ...) as the module takes them; the first row is used, the
    values do not matter. `name` names the graph; the default is the class or file name.

    Graph inputs and outputs have torch's shapes without the batch axis, e.g. (C, H, W).

    Raises UnsupportedError for an operator, dtype or shape that cannot be translated,
    ModelError for a malformed model, InputError for bad arguments, OSError for a file that
    cannot be read, MissingToolError without PyTorch.
    """
    try:
        import torch
        from torch.export import ExportedProgram
    except ImportError:
        raise MissingToolError(
            "PyTorch is not installed; run: pip install 'zeroskip[torch]'"
        ) from None
    if isinstance(source, torch.nn.Module):
        program = _export(source, example_inputs)
        default = type(source).__name__
    elif isinstance(source, ExportedProgram):
        program, default = source, "model"
    elif isinstance(source, str | os.PathLike):
        program, default = read_archive(Path(source)), Path(source).stem
    else:
        raise InputError(
            f"cannot convert a {type(source).__name__}; "
            "give an nn.Module, an ExportedProgram or the path of a .pt2 file"
        )
    with _quiet(), torch.no_grad():
        _check(program)
        program = _decompose(program)
        _check_state(program)
        graph = _Importer(program, name or default).run()
    return simplify(fold_batch_norm(graph))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings, which speak to the author of the module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _export(module: torch.nn.Module, example_inputs: Example | None) -> ExportedProgram:
    import torch

    arguments = _example(example_inputs, type(module).__name__)
    training = {part: part.training for part in module.modules()}
    try:
        module.eval()
        # Without gradients here, a no_grad block in the module leaves no trace.
        with _quiet(), torch.no_grad():
            return torch.export.export(module, arguments)
    except Exception as error:  # tracing runs the user's code
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedError(
            f"torch.export cannot trace {type(module).__name__} with inputs "
            f"{[list(a.shape) for a in arguments]}: {line}"
        ) from error
    finally:
        for part, mode in training.items():
            part.training = mode


def _example(given: Example | None, what: str) -> tuple[torch.Tensor, ...]:
    """The first row of each example, as float32."""
    import torch

    if given is None:
        raise InputError(f"{what} needs example inputs, e.g. torch.zeros(1, 3, 32, 32)")
    several = given if isinstance(given, list | tuple) else [given]
    arrays = [torch.as_tensor(a, dtype=torch.float32) for a in several]
    if not arrays or any(a.ndim < 2 or a.shape[0] == 0 for a in arrays):
        shapes = [list(a.shape) for a in arrays]
        raise InputError(f"example inputs of shapes {shapes} must have a batch axis first")
    return tuple(a[:1].detach().clone() for a in arrays)


def _check_state(program: ExportedProgram) -> None:
    """Refuse what a pure function of its inputs does not have."""
    from torch.export.graph_signature import InputKind, OutputKind

    for spec in program.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            raise UnsupportedError(
                f"the model writes '{spec.target or spec.arg}' ({spec.kind.name.lower()}): state "
                "between calls is not supported; was it exported in eval mode?"
            )
    for entry in program.graph_signature.input_specs:
        if entry.kind in (InputKind.CUSTOM_OBJ, InputKind.TOKEN):
            raise UnsupportedError(f"input '{entry.arg}' is a {entry.kind.name.lower()}")


def _check(program: ExportedProgram) -> None:
    """Refuse foreign operators and moving shapes before anything is executed."""
    import torch

    _check_state(program)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and not all(type(d) is int for d in value.shape):
            raise UnsupportedError(
                f"node '{node.name}' has the dynamic shape {list(value.shape)}; export the model "
                "without dynamic_shapes, with a batch of 1"
            )
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
            raise _unsupported(_operator_name(node), _place(node))
        takes_tensors = any("Tensor" in str(a.type) for a in target._schema.arguments)
        random = torch.Tag.nondeterministic_seeded in target.tags
        if (not takes_tensors and _base(node) not in _CREATION) or (
            random and _base(node) not in HANDLERS
        ):
            raise _unsupported(_operator_name(node), _place(node))


def _decompose(program: ExportedProgram) -> ExportedProgram:
    try:
        decomposed: ExportedProgram = program.run_decompositions(_decompositions().copy())
        return decomposed
    except Exception as error:  # torch raises whatever an inconsistent graph leads to
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"torch cannot decompose the exported program: {line}") from error


@cache
def _decompositions() -> Any:
    """Core ATen's table without the operators that stay whole."""
    import torch

    table: Any = torch.export.default_decompositions()
    for kept in _KEPT_WHOLE:
        packet, overload = kept.split(".")
        table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
    return table


def _operator_name(node: Node) -> str:
    return str(node.target).removesuffix(".default")


def _base(node: Node) -> str:
    """The operator without namespace and overload, e.g. convolution."""
    schema = getattr(node.target, "_schema", None)
    return str(schema.name).rpartition("::")[2] if schema is not None else str(node.target)


def _place(node: Node) -> str:
    """Where a node is in the model: its module's path, and the operator if the module is not
    one of torch's own layers, e.g. features.0 or block1.add."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    path = str(path).removeprefix("L['self']").lstrip(".")
    if path and kind.startswith(("torch.nn.modules.", "torch.nn.utils.parametrize.")):
        return path
    own = _base(node).strip("_")
    return f"{path}.{own}" if path else own


def _unsupported(name: str, place: str) -> UnsupportedError:
    return UnsupportedError(f"{name} at '{place}' is not supported; supported are {SUPPORTED}")


class _Importer:
    """Walks the program once. `_values` holds an activation, a torch tensor that depends on
    parameters only, or a tuple of them, for each node."""

    def __init__(self, program: ExportedProgram, name: str) -> None:
        self._program = program
        self._builder = GraphBuilder(name)
        self._values: dict[Node, Any] = {}

    def run(self) -> Graph:
        specs = iter(self._program.graph_signature.input_specs)
        outputs: list[Value] = []
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = self._placeholder(node, next(specs))
            elif node.op == "call_function":
                self._values[node] = self._call(node)
            elif node.op == "output":
                outputs = self._outputs(node)
            else:
                raise _unsupported(f"{node.op} {node.target}", _place(node))
        return self._builder.finish(outputs)

    def _placeholder(self, node: Node, spec: Any) -> Any:
        import torch

        if spec.target is not None:
            state = self._program.state_dict
            constants = self._program.constants
            held = state[spec.target] if spec.target in state else constants[spec.target]
            if not isinstance(held, torch.Tensor):
                raise UnsupportedError(f"constant '{spec.target}' is a {type(held).__name__}")
            return held.detach()
        example = node.meta.get("val")
        if not isinstance(example, torch.Tensor):
            return example
        shape = tuple(int(d) for d in example.shape)
        if example.dtype != torch.float32 or len(shape) < 2 or shape[0] != 1:
            raise UnsupportedError(
                f"input '{node.name}' is {str(example.dtype).removeprefix('torch.')} of shape "
                f"{list(shape)}; supported is float32 with a batch of 1 first: (1, ...)"
            )
        return self._builder.add_input(node.name, shape)

    def _call(self, node: Node) -> Any:
        import torch
        from torch.fx import map_arg

        if node.target is operator.getitem:
            source, index = node.args
            return self._values[source][index]  # type: ignore[index]
        base = _base(node)
        if base in _IGNORED:
            return None
        if not any(_has_activation(self._values[n]) for n in node.all_input_nodes):
            return self._evaluate(node)
        if base not in HANDLERS or (base == "as_strided" and not _keeps_order(node)):
            raise _unsupported(_operator_name(node), _place(node))
        first = _first(node.meta["val"])
        if first.dtype != torch.float32:
            raise UnsupportedError(
                f"{_operator_name(node)} at '{_place(node)}' computes in "
                f"{str(first.dtype).removeprefix('torch.')}; supported is float32 "
                "(convert the module with .float())"
            )
        schema: Any = node.target._schema  # type: ignore[union-attr]
        arguments: dict[str, Any] = {}
        for i, argument in enumerate(schema.arguments):
            given = node.kwargs.get(argument.name, argument.default_value)
            if i < len(node.args):
                given = node.args[i]
            arguments[argument.name] = map_arg(given, self._values.__getitem__)
        shape: Shape = tuple(int(d) for d in first.shape)
        call = Call(_place(node), _operator_name(node), arguments, shape)
        try:
            return HANDLERS[base](self._builder, call)
        except ModelError as error:
            if call.operator in str(error):
                raise
            raise type(error)(f"{call.operator} at '{call.name}': {error}") from None

    def _evaluate(self, node: Node) -> Any:
        """The value of an operator that no activation reaches."""
        import torch
        from torch.fx import map_arg

        first = _first(node.meta["val"])
        if isinstance(first, torch.Tensor) and first.numel() > _MAX_CONSTANT_ELEMENTS:
            raise UnsupportedError(
                f"{_operator_name(node)} at '{_place(node)}' makes a constant of "
                f"{first.numel()} elements; the limit is {_MAX_CONSTANT_ELEMENTS}"
            )
        args, kwargs = map_arg((node.args, node.kwargs), self._values.__getitem__)
        try:
            return node.target(*args, **kwargs)  # type: ignore[operator]
        except Exception as error:  # torch raises whatever inconsistent arguments lead to
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"{_operator_name(node)} at '{_place(node)}' fails: {line}") from error

    def _outputs(self, node: Node) -> list[Value]:
        results: Any = node.args[0]
        values: list[Value] = []
        for i, result in enumerate(results):
            value = None if isinstance(result, int | float | None) else self._values[result]
            if not isinstance(value, Value):
                raise UnsupportedError(
                    f"output {i} does not depend on the inputs; supported are computed tensors"
                )
            if math.prod(value.shape) == 0:
                raise UnsupportedError(f"output {i} is empty")
            values.append(value)
        return values


def _has_activation(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_has_activation(v) for v in value)
    return isinstance(value, Value)


def _keeps_order(node: Node) -> bool:
    """Whether as_strided does nothing; global average pooling leaves such a one behind."""
    x: Any = node.args[0]
    before, after = x.meta["val"], node.meta["val"]
    strides = zip(before.shape, before.stride(), after.stride(), strict=False)
    return (
        before.shape == after.shape
        and before.storage_offset() == after.storage_offset()
        and all(d == 1 or old == new for d, old, new in strides)
    )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) else value
