"""The whole way: train, prune, share weights, convert, run on three emulated boards.

    python examples/digits/demo.py [--quick]

Takes some minutes on two cores. Files are left in build/demo. The commands that are printed are
the ones to use with a model of your own; examples/your_model.py does the same in Python.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compress import fold_batch_norm, prune, share, sparsity, weights_of
from torch import nn
from tqdm import tqdm
from train import Digits, accuracy, build_network, fit, load, predict

import zeroskip
from zeroskip import cli

BOARDS = ("microbit", "nucleo-l4r5zi", "mps2-an505")
TARGET_SPARSITY = 0.9
CENTROIDS = 16
OUT = Path(__file__).resolve().parents[2] / "build" / "demo"


@dataclass(frozen=True)
class Epochs:
    """How long to train; `quick` is for trying the demo itself."""

    train: int
    prune: int
    share: int


FULL = Epochs(train=15, prune=24, share=6)
QUICK = Epochs(train=3, prune=4, share=1)


def progress(epochs: Sequence[int], what: str) -> Iterable[int]:
    """A bar on a terminal, one line elsewhere."""
    if not sys.stderr.isatty():
        print(f"{what}: {len(epochs)} epochs", flush=True)
        return epochs
    return tqdm(epochs, desc=f"{what:<28}", unit="epoch", leave=True)


def zeroskip_command(*arguments: str) -> str:
    """Run one zeroskip command as a shell would, and give what it printed.

    Raises SystemExit with its status if it fails; the reason is on stderr then.
    """
    shown = [Path(a).name if a.startswith(str(OUT)) else a for a in arguments]
    print(f"$ zeroskip {shlex.join(shown)}", flush=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = cli.main(arguments)
    if status != 0:
        raise SystemExit(status)
    return printed.getvalue()


def train_and_compress(digits: Digits, epochs: Epochs) -> tuple[nn.Sequential, nn.Sequential]:
    """The dense network, and the pruned one with shared weights and batch-norm folded."""
    x, y = digits.train_x, digits.train_y
    dense = build_network(seed=0)
    fit(
        dense,
        x,
        y,
        epochs=epochs.train,
        learning_rate=4e-3,
        seed=0,
        progress=progress,
        what="train",
    )
    pruned = prune(
        dense, x, y, target=TARGET_SPARSITY, epochs=epochs.prune, seed=1, progress=progress
    )
    shared = share(
        fold_batch_norm(pruned),
        x,
        y,
        centroids=CENTROIDS,
        epochs=epochs.share,
        seed=2,
        progress=progress,
    )
    return dense, shared


def convert(model: nn.Module, digits: Digits) -> Path:
    """Export the network and convert it to int8; the calibration data are training images."""
    source, container = OUT / "digits.pt2", OUT / "digits.zsk"
    calibration = OUT / "calibration.npz"
    torch.export.save(torch.export.export(model.eval(), (digits.train_x[:1],)), source)
    np.savez(calibration, x=digits.train_x[:512].numpy())
    zeroskip_command(
        "convert", str(source), "-o", str(container), "--calibration", str(calibration)
    )
    return container


def emulate(container: Path, board: str, inputs: Path) -> tuple[dict[str, Any], Path]:
    """Run all held-out digits on an emulated board: its report, and the file with the outputs."""
    outputs = OUT / f"{board}.npy"
    report = zeroskip_command(
        "emulate",
        str(container),
        "--board",
        board,
        "--input",
        str(inputs),
        "--output",
        str(outputs),
        "--json",
    )
    return json.loads(report), outputs


def dense_bytes(model: nn.Module) -> tuple[int, int]:
    """Bytes of all weights and biases, batch-norm folded, dense: as float32, as int8.

    Biases take 4 bytes in both.
    """
    weights = sum(w.numel() for w in weights_of(model).values())
    biases = sum(w.shape[0] for w in weights_of(model).values())
    return 4 * (weights + biases), weights + 4 * biases


def table(rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Rows of (what, value per board), aligned; a single value stands for all boards."""
    first = max(len(what) for what, _ in rows)
    width = max(len(v) for _, values in rows if len(values) > 1 for v in values)
    lines = []
    for what, values in rows:
        cells = "  ".join(v.rjust(width) for v in values) if len(values) > 1 else values[0]
        lines.append(f"{what:<{first}}  {cells}".rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="zeroskip from training to emulated boards.")
    parser.add_argument("--quick", action="store_true", help="train for a few epochs only")
    parser.add_argument("--boards", nargs="+", default=list(BOARDS), metavar="BOARD")
    parser.add_argument("--digits", type=int, default=None, help="held-out digits per board (all)")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    OUT.mkdir(parents=True, exist_ok=True)

    digits = load()
    dense, shared = train_and_compress(digits, QUICK if args.quick else FULL)
    container = convert(shared, digits)

    inputs = OUT / "inputs.npy"
    test_x, test_y = digits.test_x[: args.digits], digits.test_y[: args.digits]
    np.save(inputs, test_x.numpy())
    host = zeroskip.Model.load(container).run(test_x.numpy())
    assert isinstance(host, np.ndarray)

    reports, on_device = [], []
    for board in args.boards:
        report, outputs = emulate(container, board, inputs)
        on_device.append(np.load(outputs))
        reports.append(report)

    def percent(logits: np.ndarray) -> str:
        return f"{accuracy(logits, test_y):.1%}"

    float_bytes, int8_bytes = dense_bytes(shared)
    size = container.stat().st_size
    identical = [
        bool(report["matches_host"]) and np.array_equal(y, host)
        for report, y in zip(reports, on_device, strict=True)
    ]
    print()
    print(
        table(
            [
                ("board", args.boards),
                ("core", [r["core"] for r in reports]),
                ("accuracy, float32", [percent(predict(dense, test_x))]),
                (
                    f"accuracy, {sparsity(shared):.0%} zeros, {CENTROIDS} centroids",
                    [percent(predict(shared, test_x))],
                ),
                ("accuracy, int8 on the host", [percent(host)]),
                ("accuracy, int8 on the device", [percent(y) for y in on_device]),
                ("output identical to the host's", ["yes" if i else "NO" for i in identical]),
                ("container", [f"{size:,} bytes"]),
                (
                    "  dense float32 parameters",
                    [f"{float_bytes:,} bytes, {times(float_bytes, size)}"],
                ),
                ("  dense int8 parameters", [f"{int8_bytes:,} bytes, {times(int8_bytes, size)}"]),
                ("flash, container and code", [f"{flash(r):,} B" for r in reports]),
                ("RAM, arena", [f"{r['ram_bytes']['arena']:,} B" for r in reports]),
                ("instructions per digit", [f"{r['instructions']:,}" for r in reports]),
                ("cycles per digit, estimated", [cycles(r) for r in reports]),
                ("latency at the board's clock", [latency(r) for r in reports]),
            ]
        )
    )
    print(f"\n{len(test_y)} held-out digits; {time.perf_counter() - started:.0f} s in all.")
    print(YOUR_MODEL)
    return 0 if all(identical) else 1


def times(dense: int, size: int) -> str:
    return f"{dense / size:.1f} times as much"


def flash(report: dict[str, Any]) -> int:
    return sum(report["flash_bytes"].values())


def cycles(report: dict[str, Any]) -> str:
    return "no model" if report["cycles"] is None else f"{report['cycles']:,}"


def latency(report: dict[str, Any]) -> str:
    if report["latency_ms"] is None:
        return "no model"
    return f"{report['latency_ms']:.2f} ms at {report['clock_hz'] / 1e6:g} MHz"


YOUR_MODEL = """
With a model of your own:
  torch.export.save(torch.export.export(model.eval(), (example,)), "model.pt2")
  numpy.savez("calibration.npz", x=some_training_inputs)
  $ zeroskip convert model.pt2 -o model.zsk --calibration calibration.npz
  $ zeroskip info model.zsk
  $ zeroskip emulate model.zsk --board nucleo-l4r5zi
  $ zeroskip build model.zsk --board nucleo-l4r5zi -o firmware.elf
A .tflite file takes the place of model.pt2; an int8 one needs no calibration.
In Python: examples/your_model.py."""


if __name__ == "__main__":
    sys.exit(main())
