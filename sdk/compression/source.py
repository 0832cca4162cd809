"""The model to compress: a factory in a Python file, or a .pt2 file of torch.export.save."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.utils import parametrize

from zeroskip.converters.frontends.pytorch_archive import read_archive
from zeroskip.errors import InputError, ModelError
from zeroskip.pruning.masks import bake
from zeroskip.pruning.targets import Select, layer_weights

_WEIGHTED: Final = ("linear", "conv1d", "conv2d", "convolution", "conv_depthwise2d")


@dataclass(frozen=True)
class Source:
    """`make()` gives a fresh copy of the model; `select` takes its prunable weights."""

    name: str
    make: Callable[[], nn.Module]
    select: Select = layer_weights


def load(spec: str) -> Source:
    """A model by "FILE.py:factory", whose factory() gives an nn.Module, by "module:factory" (such
    as "zeroskip.models:LeNet300"), or "FILE.pt2".

    Python is run, so it must be trusted, as any program; a .pt2 file is read without unpickling.
    Raises InputError, ModelError or OSError.
    """
    path, separator, factory = spec.rpartition(":")
    if separator and path.endswith(".py"):
        return _from_factory(path, _import(Path(path)), factory)
    if separator and all(part.isidentifier() for part in path.split(".")):
        return _from_factory(path, _installed(path), factory)
    if spec.endswith(".pt2"):
        return _from_program(Path(spec))
    raise InputError(f"model '{spec}' must be FILE.py:factory, module:factory or FILE.pt2")


class ExportedModule(nn.Module):
    """An exported program that can be trained. Called with (N, ...), it gives (N, classes).

    A program exported with a fixed batch of 1 is mapped over the batch. Batch-norm stays as it
    was exported, in evaluation mode.
    """

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self._exported = program
        with _quiet():
            self.program = program.module()

    def forward(self, values: Tensor) -> Tensor:
        def one(value: Tensor) -> Tensor:
            scores: Tensor = self.program(value[None])[0]
            return scores

        with parametrize.cached():  # masks and codebooks once per batch, not once per sample
            for module in self.program.modules():
                for name in getattr(module, "parametrizations", ()):
                    getattr(module, name)
            mapped: Tensor = torch.vmap(one)(values)
        return mapped

    @property
    def input_shape(self) -> torch.Size:
        """The shape of one input, without the batch."""
        signature = self._exported.graph_signature
        for node in self._exported.graph.nodes:
            if node.op == "placeholder" and node.name in signature.user_inputs:
                shape: torch.Size = node.meta["val"].shape[1:]
                return shape
        raise ModelError("the program has no input")

    def exported(self) -> ExportedProgram:
        """The program with the weights as they are now, masks and codebooks applied."""
        with _quiet():
            program = _copied(self._exported)
        with torch.no_grad():
            for name, tensor in program.state_dict.items():
                path, _, attribute = name.rpartition(".")
                tensor.copy_(getattr(self.program.get_submodule(path), attribute))
        return program

    def train(self, mode: bool = True) -> ExportedModule:
        # An exported program has no training mode; its parametrizations have none to need.
        self.training = mode
        return self


def input_shape(model: nn.Module) -> tuple[int, ...] | None:
    """The shape of one input, without the batch, where the model tells it (exported programs)."""
    if not isinstance(model, ExportedModule):
        return None
    return tuple(model.input_shape)


def saved(model: nn.Module, shape: Sequence[int] | None) -> bytes:
    """The model as a .pt2 file, masks and codebooks applied, for one input (1, *shape).

    Raises InputError if the shape is not known, or if the model cannot be exported.
    """
    if isinstance(model, ExportedModule):
        program = model.exported()
    elif shape is None:
        raise InputError("the shape of the model's input is not known; give data")
    else:
        plain = copy.deepcopy(model).eval()
        bake(plain, lambda name, module: True)
        try:
            with _quiet():
                program = torch.export.export(plain, (torch.zeros((1, *shape)),))
        except Exception as error:  # torch.export may fail in many ways
            first = str(error).strip().partition("\n")[0]
            raise InputError(f"torch.export cannot export the model: {first}") from error
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _copied(program: ExportedProgram) -> ExportedProgram:
    """A deep copy whose inputs keep their names: torch's renames those that builtins have, such
    as `input`, and then neither finds nor saves them."""
    result = copy.deepcopy(program)
    nodes = (n for n in result.graph.nodes if n.op == "placeholder")
    for node, spec in zip(nodes, result.graph_signature.input_specs, strict=True):
        name = getattr(spec.arg, "name", None)
        if name is not None:
            node.name = node.target = name
    return result


def _from_program(path: Path) -> Source:
    program = read_archive(path)
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    inputs = [n for n in placeholders if n.name in program.graph_signature.user_inputs]
    if len(inputs) != 1 or inputs[0].meta["val"].shape[0] != 1:
        raise ModelError(f"{path}: only a program with one input, of batch 1, can be trained")
    names = dict(program.graph_signature.inputs_to_parameters)
    weights = {
        f"program.{names[node.args[1].name]}"
        for node in program.graph.nodes
        if node.op == "call_function"
        and str(node.target).removeprefix("aten.").partition(".")[0] in _WEIGHTED
        and getattr(node.args[1], "name", None) in names
    }
    if not weights:
        raise ModelError(f"{path}: no linear or convolution layer has weights of its own")

    def make() -> nn.Module:
        with _quiet():
            return ExportedModule(_copied(program))

    return Source(path.stem, make, lambda name, module: name in weights)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _from_factory(path: str, module: Any, name: str) -> Source:
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InputError(f"{path} has no function or class '{name}' to make the model with")

    def make() -> nn.Module:
        try:
            model: Any = factory()
        except Exception as error:  # the user's code may fail in any way
            raise InputError(f"{path}:{name}() failed: {type(error).__name__}: {error}") from error
        if not isinstance(model, nn.Module):
            raise InputError(f"{path}:{name}() gave a {type(model).__name__}, not an nn.Module")
        return model

    return Source(Path(path).stem if path.endswith(".py") else name, make)


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's code may fail in any way
        raise InputError(f"cannot import '{name}': {type(error).__name__}: {error}") from error


def _import(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"_zeroskip_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may fail in any way
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module
