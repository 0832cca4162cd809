"""The MLPerf Tiny int8 models: container bytes, arena, and estimated cycles on emulated boards.

    python benchmarks/mlperf_tiny.py [FOLDER] [--write]

FOLDER holds mlperf_tiny_{kws,ic,vww}_int8.tflite; the default is $ZEROSKIP_DATA/models. The table
is printed; with --write it replaces benchmarks/mlperf_tiny.md. Exit status 1 if a device's output
is not that of the host.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

import zeroskip
from zeroskip import boards, conversion
from zeroskip.converters.frontends import tflite
from zeroskip.converters.ir import Conv2D, FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.emulation.run import EmulationResult, emulate

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = Path(__file__).with_name("mlperf_tiny.md")
MODELS: Final = ("kws", "ic", "vww")
AD_WIDTHS: Final = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
BOARDS: Final = ("nucleo-l4r5zi", "raspberry-pi-pico", "mps2-an505")

# Not made by this script. TensorFlow Lite Micro: sources of 2026-08 with CMSIS-NN, gcc 12.2 -O3,
# priced once with the same Cortex-M4 and M0+ tables; arena bytes as its interpreter reports them.
# X-CUBE-AI 9.0: MLPerf Tiny v1.2, closed division, NUCLEO-L4R5ZI, cycles = latency x 120 MHz.
TFLM_M4_MCYCLES: Final = {"kws": 8.96, "ic": 35.7, "vww": 28.6}
TFLM_M0PLUS_MCYCLES: Final = {"kws": 39.8, "ic": 137.1, "vww": 119.2}
TFLM_ARENA_BYTES: Final = {"kws": 22_820, "ic": 54_996, "vww": 100_708}
X_CUBE_AI_M4_MCYCLES: Final = {"kws": 5.2, "ic": 19.8, "vww": 10.7}


def models_folder() -> Path:
    """Where the models are."""
    return Path(os.environ.get("ZEROSKIP_DATA", ROOT.parent / "shared")) / "models"


def measure(path: Path) -> tuple[bytes, zeroskip.Model, list[EmulationResult]]:
    """Convert one model and run one inference with a fixed random input on each board."""
    blob = zeroskip.convert(path)
    model = zeroskip.Model(blob)
    x = np.random.default_rng(0).integers(-128, 128, (1, *model.inputs[0].shape)).astype(np.int8)
    return blob, model, [emulate(blob, boards.load(name), [x]) for name in BOARDS]


def row(name: str, path: Path) -> tuple[str, bool]:
    """One line of the table, and whether all outputs were the host's."""
    blob, model, (m4, m0plus, m33) = measure(path)
    assert m4.cycles is not None and m0plus.cycles is not None
    cells = [
        name,
        f"{path.stat().st_size:,}",
        f"{len(blob):,}",
        f"{model.arena_bytes:,}",
        f"{TFLM_ARENA_BYTES[name]:,}",
        f"{m4.cycles / 1e6:.1f}",
        f"{TFLM_M4_MCYCLES[name]:.1f}",
        f"{X_CUBE_AI_M4_MCYCLES[name]:.1f}",
        f"{m0plus.cycles / 1e6:.1f}",
        f"{TFLM_M0PLUS_MCYCLES[name]:.1f}",
        f"{m33.instructions / 1e6:.1f}",
    ]
    return "| " + " | ".join(cells) + " |", all(r.matches_host for r in (m4, m0plus, m33))


def pruned_ic(folder: Path, sparsity: float) -> Graph:
    """ic with the fraction `sparsity` of each convolution's weights set to zero, those of least
    magnitude; the first convolution is left as it is. Nothing is retrained."""
    graph = tflite.load(folder / "mlperf_tiny_ic_int8.tflite")
    tensors = dict(graph.tensors)
    convolutions = [op for op in graph.ops if isinstance(op.attributes, Conv2D)]
    for op in convolutions[1:]:
        weight = tensors[op.inputs[1]]
        assert weight.data is not None
        flat = weight.data.flatten()
        order = np.argsort(np.abs(flat.astype(np.int16)), kind="stable")
        flat[order[: round(sparsity * flat.size)]] = 0
        tensors[weight.name] = replace(weight, data=flat.reshape(weight.shape))
    return replace(graph, tensors=tensors)


def ad_shaped() -> Graph:
    """The shapes of ad, the autoencoder of MLPerf Tiny, with random weights and biases."""
    rng = np.random.default_rng(0)
    scale = Quantization((2.0**-5,), 0)
    tensors = {"x": Tensor("x", (AD_WIDTHS[0],), "int8", scale)}
    ops = []
    name = "x"
    for i, (inputs, outputs) in enumerate(pairwise(AD_WIDTHS)):
        weights = rng.normal(0, 30, (outputs, inputs)).round().clip(-127, 127).astype(np.int8)
        bias = rng.integers(-(2**14), 2**14, outputs).astype(np.int32)
        step = 2.0**-5 if i == 0 else 2.0**-2  # of the inputs
        relu = i < len(AD_WIDTHS) - 2
        out = Tensor(f"y{i}", (outputs,), "int8", Quantization((2.0**-2,), -128 if relu else 0))
        tensors |= {
            f"w{i}": Tensor(f"w{i}", weights.shape, "int8", Quantization((2.0**-7,), 0), weights),
            f"b{i}": Tensor(f"b{i}", bias.shape, "int32", Quantization((2.0**-7 * step,), 0), bias),
            out.name: out,
        }
        ops.append(Op(f"dense_{i}", FullyConnected(), (name, f"w{i}", f"b{i}"), out.name))
        name = out.name
    return Graph("ad", tensors, tuple(ops), ("x",), (name,))


def made_rows(folder: Path) -> tuple[list[str], bool]:
    """Lines of the second table, and whether all outputs were the host's."""
    pruned = pruned_ic(folder, 0.9)
    kws, ic = (
        conversion.load_graph(folder / f"mlperf_tiny_{name}_int8.tflite") for name in ("kws", "ic")
    )
    rows, identical = [], True
    for name, graph, prefer in (
        ("kws", kws, "balanced"),
        ("kws", kws, "speed"),
        ("ic", ic, "balanced"),
        ("ic", ic, "speed"),
        ("ic, 90 % zeros", pruned, "balanced"),
        ("ic, 90 % zeros", pruned, "speed"),
        ("ad, random weights", ad_shaped(), "speed"),
    ):
        blob = conversion.build(graph, prefer=prefer)
        model = zeroskip.Model(blob)
        shape = (1, *model.inputs[0].shape)
        x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
        m4, m0plus = (emulate(blob, boards.load(name), [x]) for name in BOARDS[:2])
        assert m4.cycles is not None and m0plus.cycles is not None
        rows.append(
            f"| {name} | {prefer} | {len(blob):,} | {model.arena_bytes:,} | "
            f"{m4.cycles / 1e6:.2f} | {m0plus.cycles / 1e6:.2f} |"
        )
        identical &= m4.matches_host and m0plus.matches_host
    return rows, identical


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="zeroskip on the MLPerf Tiny models.")
    parser.add_argument("folder", type=Path, nargs="?", default=models_folder())
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    args = parser.parse_args(argv)

    rows, identical = [], True
    for name in MODELS:
        line, same = row(name, args.folder / f"mlperf_tiny_{name}_int8.tflite")
        rows.append(line)
        identical &= same
    made, same = made_rows(args.folder)
    identical &= same
    text = HEAD + "\n".join(rows) + "\n" + MADE_HEAD + "\n".join(made) + "\n"
    print(text, end="")
    if args.write:
        TABLE.write_text(text, encoding="utf-8")
    return 0 if identical else 1


HEAD: Final = """\
# MLPerf Tiny models

Printed by `python benchmarks/mlperf_tiny.py --write` from the stock int8 models, converted
losslessly; the outputs on the emulated boards are the host's, bit for bit. Cycles in millions.

- zeroskip: **estimated**, executed instructions priced with the core's timing table at zero wait
  states (M33: instructions, there is no table yet).
- TFLM: TensorFlow Lite Micro with CMSIS-NN, sources of 2026-08, gcc 12.2 -O3, **estimated** once
  with the same tables; not run by this script.
- X-CUBE-AI 9.0: **published**, MLPerf Tiny v1.2, closed division, NUCLEO-L4R5ZI at 120 MHz.

| model | .tflite | .zsk | arena | TFLM | M4 | TFLM | X-CUBE-AI | M0+ | TFLM | M33 instructions |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


MADE_HEAD: Final = """
## What `--prefer` trades, and models made from these

Bytes **measured**, cycles in millions **estimated** as above. `balanced` also runs layers in parts
where that lowers the arena. ic with 90 % of the weights of all convolutions but the
first set to zero, by magnitude, not retrained: what sparsity does to bytes and cycles, not to
accuracy. ad with random weights and biases in the shapes of MLPerf Tiny's autoencoder, which is not
among the models at hand; TFLM with CMSIS-NN took 0.715 on M4 for the trained one.

| model | --prefer | .zsk | arena | M4 | M0+ |
|---|---|---:|---:|---:|---:|
"""


if __name__ == "__main__":
    sys.exit(main())
