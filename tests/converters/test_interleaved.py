"""Convolutions that read images with channels last: the same outputs, no transposed copy."""

from pathlib import Path

import numpy as np
import pytest

from zeroskip.conversion import build, load_graph
from zeroskip.converters import container, reference
from zeroskip.converters.budget import Budget
from zeroskip.converters.ir import Conv2D, Graph, Op, Quantization, Tensor, Transpose
from zeroskip.converters.passes.interleaved import read_interleaved
from zeroskip.converters.passes.padding import pad_inputs
from zeroskip.runtime import Model

Q = Quantization((0.0625,), -3)
IMAGE = (13, 11, 3)


def network(dtype: str, a: Conv2D, kernel: tuple[int, int], *, readers: int = 1) -> Graph:
    """image (H, W, C) -> transposed -> `readers` equal convolutions."""
    rng = np.random.default_rng(7)
    rows, columns, channels = IMAGE
    per_group = channels // a.groups
    data = rng.normal(size=(6, per_group, *kernel)).astype("f4")
    q, per_filter = None, None
    if dtype == "int8":
        scales = tuple(float(np.float32(s)) for s in rng.uniform(1e-3, 4e-3, 6))
        q, per_filter = Q, Quantization(scales, 0)
        data = rng.integers(-127, 128, data.shape).astype(np.int8)
    data[rng.random(data.shape) < 0.3] = 0
    tensors = [
        Tensor("x", IMAGE, dtype, q),
        Tensor("planes", (channels, rows, columns), dtype, q),
        Tensor("w", data.shape, dtype, per_filter, data),
    ]
    top, bottom, left, right = a.padding
    height = (rows + top + bottom - (kernel[0] - 1) * a.dilation[0] - 1) // a.stride[0] + 1
    width = (columns + left + right - (kernel[1] - 1) * a.dilation[1] - 1) // a.stride[1] + 1
    ops = [Op("transpose", Transpose((2, 0, 1)), ("x",), "planes")]
    for name in "abc"[:readers]:
        tensors.append(Tensor(name, (6, height, width), dtype, q))
        ops.append(Op(name, a, ("planes", "w"), name))
    outputs = tuple("abc"[:readers])
    return Graph("network", {t.name: t for t in tensors}, tuple(ops), ("x",), outputs)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("attributes", "kernel"),
    [
        (Conv2D(), (1, 1)),
        (Conv2D((2, 2), padding=(0, 1, 0, 1)), (3, 3)),
        (Conv2D((1, 1), padding=(1, 1, 1, 1)), (3, 3)),
        (Conv2D((2, 1), (2, 1), (3, 2, 2, 1)), (4, 5)),
        (Conv2D((3, 2), padding=(2, 0, 0, 3)), (3, 4)),
    ],
)
def test_outputs_stay_the_same(
    dtype: str, padded: bool, attributes: Conv2D, kernel: tuple[int, int]
) -> None:
    graph = network(dtype, attributes, kernel)
    if padded:
        graph = pad_inputs(graph)
    changed = read_interleaved(graph)
    assert "transpose" not in {op.kind for op in changed.ops}
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, *IMAGE)).astype("f4")
    if dtype == "int8":
        x = rng.integers(-128, 128, x.shape).astype(np.int8)
    expected, found = reference.run(graph, [x])[0], Model(container.build(changed)).run(x)
    assert reference.run(changed, [x])[0].tobytes() == found.tobytes()
    if dtype == "int8":
        assert found.tobytes() == expected.tobytes()
    else:  # the order of the sums
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "readers"),
    [(Conv2D(groups=3), 1), (Conv2D(dilation=(1, 2)), 1), (Conv2D(), 2)],
    ids=["groups", "dilation", "two readers"],
)
def test_what_needs_the_copy_keeps_it(attributes: Conv2D, readers: int) -> None:
    graph = network("int8", attributes, (3, 3), readers=readers)
    assert read_interleaved(graph) is graph


def test_vww_within_a_budget_below_its_image_twice(data_root: Path) -> None:
    graph = load_graph(data_root / "models" / "mlperf_tiny_vww_int8.tflite")
    blob = build(graph, budget=Budget(200_000, 47_100, "cortex-m4", 120_000_000))
    description = container.describe(blob)
    assert description.arena_bytes <= 47_100 < 2 * 96 * 96 * 3
    assert "transpose" not in {op.op for op in description.ops}
    x = np.random.default_rng(0).integers(-128, 128, (2, 96, 96, 3)).astype(np.int8)
    assert Model(blob).run(x).tobytes() == Model(build(graph)).run(x).tobytes()
