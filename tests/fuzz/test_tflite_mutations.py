"""Damaged .tflite files end in ModelError or in a graph that works, in bounded time and memory."""

import math
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tflite")

from tflite_models import Net

from zeroskip.converters import reference
from zeroskip.converters.frontends import tflite
from zeroskip.converters.ir import Conv2D, Graph, Pool2D
from zeroskip.errors import ModelError

MUTATIONS = 2000
PEAK_BYTES = 32 << 20  # the small models here are under 10 kB
SECONDS = 5.0
CHUNKS = 8


def convolutional(seed: int) -> bytes:
    net = Net("int8", seed)
    x = net.conv(net.input((1, 6, 5, 3)), 4, (3, 3), stride=(2, 1), activation="relu")
    x = net.pool("AVERAGE", x, (2, 2), (1, 1))
    x = net.dense(net.flatten(x), 5, sparsity=0.5)
    return net.build(net.softmax(x))


def sparse(seed: int) -> bytes:
    net = Net("int8", seed)
    encoding = {"compressed": (0, 3), "blocks": {3: 2}}
    x = net.conv(net.input((1, 4, 4, 4)), 4, (2, 2), sparsity=0.8, sparse=encoding)
    return net.build(net.mean(x, (1, 2), True, False))


def legacy(seed: int) -> bytes:
    net = Net("uint8", seed)
    x = net.input((1, 4, 5, 2))
    y = net.conv(x, 0, (3, 3), multiplier=1)
    y = net.pad(net.concat([x, y], 3), ((0, 0), (1, 0), (0, 2), (0, 0)))
    return net.build(net.unary("LOGISTIC", net.transpose(y, (0, 3, 1, 2))), net.quantize(y, "int8"))


def floating(seed: int) -> bytes:
    net = Net("float32", seed)
    x = net.input((1, 3, 4, 2))
    y = net.binary("ADD", x, net.operand((1, 3, 1, 2)), "relu6")
    y = net.reshape(net.binary("MUL", x, y), (1, 6, 4))
    return net.build(net.unary("LEAKY_RELU", net.dense(y, 3, width=4, keep_dims=True)))


MODELS: dict[str, Callable[[int], bytes]] = {
    build.__name__: build for build in (convolutional, sparse, legacy, floating)
}


def mutate(model: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, flip bits, overwrite words with likely troublemakers, copy words about."""
    data = bytearray(model)
    kind = int(rng.integers(0, 8))
    if kind == 0:
        return bytes(data[: int(rng.integers(0, len(data)))])
    for _ in range(int(rng.integers(1, 5))):
        # Structure lies towards the end, constants towards the beginning.
        at = int(rng.integers(0, len(data) // 4)) * 4
        if kind <= 3:
            data[at + int(rng.integers(0, 4))] ^= 1 << int(rng.integers(0, 8))
        elif kind <= 5:
            words = [0, 1, 2, 3, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
            data[at : at + 4] = int(rng.choice(words)).to_bytes(4, "little")
        elif kind == 6:
            data[at] = int(rng.integers(0, 256))
        else:
            source = int(rng.integers(0, len(data) // 4)) * 4
            data[at : at + 4] = data[source : source + 4]
    return bytes(data)


def work(graph: Graph) -> int:
    """Roughly the element operations of one run of the oracle."""
    total = 0
    for op in graph.ops:
        taps = 1
        if isinstance(op.attributes, Conv2D):
            taps = math.prod(graph.tensors[op.inputs[1]].shape[1:])
        elif isinstance(op.attributes, Pool2D):
            taps = math.prod(op.attributes.kernel)
        total += graph.output_tensor(op).size * taps + taps
    return total


def run(graph: Graph) -> None:
    """A graph that was accepted computes something of the declared shape, or has scales that
    cannot be represented, which is a ModelError."""
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(0, 100, (1, *tensor.shape)).astype(tensor.dtype)
        for tensor in (graph.tensors[name] for name in graph.inputs)
    ]
    try:
        outputs = reference.run(graph, inputs)
    except ModelError:
        return
    for name, output in zip(graph.outputs, outputs, strict=True):
        assert output.shape == (1, *graph.tensors[name].shape)


def check(data: bytes) -> bool:
    """Load hostile bytes. Returns whether they made a graph."""
    tracemalloc.reset_peak()
    start = time.monotonic()
    try:
        graph = tflite.load(data)
    except ModelError as error:
        assert "\n" not in str(error) and str(error)
        graph = None
    assert time.monotonic() - start < SECONDS
    assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    if graph is not None and work(graph) < 100_000:
        run(graph)
    return graph is not None


@pytest.fixture(autouse=True)
def traced_memory():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_mutations(chunk: int) -> None:
    rng = np.random.default_rng(chunk)
    build = list(MODELS.values())[chunk % len(MODELS)]
    model = build(chunk)
    assert check(model)
    accepted = 0
    for _ in range(MUTATIONS // CHUNKS):
        accepted += check(mutate(model, rng))
    # Most damage is to constants; if nothing got through, the mutations would be too crude.
    assert accepted > 0


@pytest.mark.parametrize("name", MODELS)
def test_truncations(name: str) -> None:
    model = MODELS[name](1)
    for length in range(0, len(model), max(1, len(model) // 150)):
        check(model[:length])


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0\0\0\0TFL3", b"\x18\0\0\0TFL3" + b"\xff" * 64])
def test_no_model_at_all(data: bytes) -> None:
    with pytest.raises(ModelError):
        tflite.load(data)
