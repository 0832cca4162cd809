"""Simulated accelerators, chosen as boards are: `zeroskip emulate --board eie-64pe`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zeroskip.accelerators.eie import Array, LayerResult, run_layer
from zeroskip.boards.accelerators import Accelerator
from zeroskip.converters.codecs import decode
from zeroskip.converters.description import StoredLayer, describe, stored_layers
from zeroskip.errors import InputError
from zeroskip.runtime import Model


def run_container(
    container: bytes, accelerator: Accelerator, inputs: Sequence[npt.ArrayLike]
) -> list[LayerResult]:
    """Every fully connected layer of a container on the accelerator, for one inference.

    `inputs` are those of the model, (1, *shape) or (*shape); each layer gets the activations
    that the host's runtime has there, less their zero point. Raises FormatError, and InputError
    for a model without int8 fully connected layers of one row.
    """
    model = Model(container)
    names = [op.name for op in describe(container).ops]
    layers = {layer.index: layer for layer in stored_layers(container) if _fits(layer)}
    if not layers:
        raise InputError(
            f"{accelerator.name} runs fully connected int8 layers, and the model has none"
        )
    results: list[LayerResult] = []

    def observe(op: int, arena: Array) -> None:
        layer = layers.get(op)
        if layer is None:
            return
        weights = decode(layer.encoded, layer.dtype).astype(np.int64) - layer.encoded.zero_point
        if layer.encoded.by_columns:
            weights = weights.T
        at = layer.x.location
        stored = arena[at : at + weights.shape[1]].view(np.int8)
        activations = stored.astype(np.int64) - layer.x.zero_point
        results.append(run_layer(op, names[op], weights, activations, accelerator))

    model.run_observed(observe, *inputs)
    return results


def _fits(layer: StoredLayer) -> bool:
    """Whether a layer is an int8 matrix-vector product with an activation in the arena."""
    e = layer.encoded
    inputs = e.rows if e.by_columns else e.cols
    return (
        not layer.window
        and layer.dtype == np.int8
        and not layer.x.constant
        and int(np.prod(layer.x.shape)) == inputs
    )
