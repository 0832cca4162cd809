"""Make golden containers: files that every later version must run to the same outputs.

    python tools/golden.py

Writes tests/golden/v<format version>/<name>.zsk and .npz (x, y) for names that are not there
yet; what is there is never changed. A new format version or codec adds files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from random_graphs import (  # noqa: E402
    biased_layer,
    forced,
    layer_graph,
    random_graph,
    random_inputs,
    short_segments,
    uneven_graph,
)

from zeroskip.converters import codecs, container, reference  # noqa: E402
from zeroskip.converters.format import MAJOR, MINOR  # noqa: E402
from zeroskip.converters.ir import (  # noqa: E402
    RELU,
    Attributes,
    Concat,
    Graph,
    Op,
    Pad,
    Quantization,
    Slice,
    Tensor,
    Unary,
    UnaryKind,
)
from zeroskip.converters.planner import Prefer  # noqa: E402
from zeroskip.errors import ModelError  # noqa: E402

FOLDER: Final = ROOT / "tests" / "golden" / f"v{MAJOR}.{MINOR}"
LARGEST_BYTES: Final = 1500


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for positions in codecs.POSITIONS:
        for values in codecs.VALUES:
            make_codec(positions, values)
    make_segments()
    make_parameters()
    make_ops()
    make_places()
    return 0


def save(name: str, graph: Graph, blob: bytes, seed: int) -> None:
    path = FOLDER / f"{name}.zsk"
    if path.exists():
        return
    x = random_inputs(graph, 2, seed)
    path.write_bytes(blob)
    np.savez_compressed(path.with_suffix(".npz"), x=x, y=reference.run(graph, [x])[0])
    print(path.relative_to(ROOT))


def make_codec(positions: str, values: str) -> None:
    """A fully connected layer stored with one codec pair, by rows and by columns."""
    for prefer in Prefer:
        wanted = f"{positions}+{values}" + (", by columns" if prefer is Prefer.SPEED else "")
        for seed in range(100):
            graph = layer_graph("fully_connected", seed, "int8")
            try:
                blob = container.build(graph, prefer=prefer, choose=forced(positions, values))
            except ModelError:
                continue
            if container.describe(blob).ops[0].codec == wanted:
                save(wanted.replace(", by columns", "-columns"), graph, blob, seed)
                break


def make_segments() -> None:
    """ANS streams with classes of rows and columns, cut into segments."""
    for seed, dtype in ((11, "int8"), (13, "float32")):
        graph = uneven_graph(seed, dtype)
        with short_segments():
            blob = container.build(graph, choose=forced("ans", "ans"))
        save(f"ans-segments-{dtype}", graph, blob, seed)


def make_parameters() -> None:
    """Every form of biases and multipliers, behind the simplest codec."""
    rng = np.random.default_rng(0)
    few = np.where(np.arange(20) % 7 == 0, 1000 + np.arange(20), 0)
    cases = {
        "base": (rng.integers(9000, 9020, 20) * 64, 8, True),
        "mask": (few, None, False),
        "whole": (rng.integers(-(2**31), 2**31, 20), None, True),
        "equal": (np.full(20, -77), 8, False),
    }
    for name, (bias, bits, per_channel) in cases.items():
        graph = biased_layer(bias.astype(np.int32), 0, bits, per_channel, name == "mask")
        save(f"bias-{name}", graph, container.build(graph, choose=forced("dense", "raw")), 0)
    floats = np.where(few > 0, rng.normal(size=20), 0).astype(np.float32)
    graph = biased_layer(floats, 0, None, False, False)
    save("bias-float", graph, container.build(graph, choose=forced("dense", "raw")), 0)


def make_ops() -> None:
    """Chains that hold every operator and type."""
    seen: set[str] = set()
    for seed in range(600):
        dtype = ("int8", "int8", "float32")[seed % 3]
        io = (None, "uint8", "float32")[seed // 3 % 3] if dtype == "int8" else None
        graph = random_graph(seed, dtype, 3, io)
        try:
            blob = container.build(graph, prefer=(Prefer.SIZE, Prefer.SPEED)[seed // 9 % 2])
        except ModelError:
            continue
        description = container.describe(blob)
        kinds = {f"{op.op} {dtype}" for op in description.ops}
        kinds |= {f"{port.dtype} input" for port in description.inputs}
        if len(blob) <= LARGEST_BYTES and not kinds <= seen:
            seen |= kinds
            save(f"{seed:03}", graph, blob, seed)


def make_places() -> None:
    """Tensors within others: padding in place, a slice that is copied and slices that are not."""
    for name, q in (("int8", Quantization((0.0625,), 3)), ("float32", None)):
        shapes = {"x": (8, 4, 4), "padded": (8, 6, 6), "inner": (8, 5, 3), "low": (4, 5, 3)}
        shapes |= {"high": (4, 5, 3), "a": (4, 5, 3), "b": (4, 5, 3), "y": (8, 5, 3)}
        tensors = {n: Tensor(n, shape, name, q) for n, shape in shapes.items()}
        steps: list[tuple[Attributes, tuple[str, ...], str]] = [
            (Pad(((0, 0), (1, 1), (1, 1)), 0.5), ("x",), "padded"),
            (Slice((0, 1, 2)), ("padded",), "inner"),
            (Slice((0, 0, 0)), ("inner",), "low"),
            (Slice((4, 0, 0)), ("inner",), "high"),
            (Unary(UnaryKind.CLAMP, RELU), ("low",), "a"),
            (Unary(UnaryKind.HARDSWISH), ("high",), "b"),
            (Concat(0), ("a", "b"), "y"),
        ]
        ops = tuple(Op(out, a, inputs, out) for a, inputs, out in steps)
        graph = Graph("places", tensors, ops, ("x",), ("y",))
        blob = container.build(graph)
        assert [op.op for op in container.describe(blob).ops][:2] == ["pad", "slice"]
        save(f"places-{name}", graph, blob, 1)


if __name__ == "__main__":
    sys.exit(main())
