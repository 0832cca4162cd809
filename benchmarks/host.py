"""Speed of the portable kernels on this machine, beside tflite-runtime.

    python benchmarks/host.py [--write]

One thread each, the stock MLPerf Tiny models of ZEROSKIP_DATA and ic with 90 % zeros as in
mlperf_tiny.py. Runs alternate, and the ratio of the fastest
of each is what counts: seconds differ between machines. The table is printed; with --write it
replaces benchmarks/host.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from mlperf_tiny import models_folder, pruned_ic

from zeroskip import conversion
from zeroskip.runtime import Model

TABLE: Final = Path(__file__).with_name("host.md")
NAMES: Final = ("kws", "ic", "vww")
ROUNDS: Final = 30


def fastest(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the fastest of ROUNDS runs of each, in turn."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for i, run in enumerate((first, second)):
            begin = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - begin)
    return best[0], best[1]


def tflite(path: Path, x: npt.NDArray[np.int8]) -> Callable[[], Any]:
    from tflite_runtime.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    return interpreter.invoke


def row(name: str, blob: bytes, path: Path) -> str:
    model = Model(blob)
    x = np.random.default_rng(0).integers(-128, 128, (1, *model.inputs[0].shape)).astype(np.int8)
    ours, theirs = fastest(lambda: model.run(x), tflite(path, x))
    return f"| {name} | {1e3 * ours:.2f} | {1e3 * theirs:.2f} | {ours / theirs:.2f} |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The host's speed beside tflite-runtime.")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    args = parser.parse_args(argv)
    paths = {n: models_folder() / f"mlperf_tiny_{n}_int8.tflite" for n in NAMES}
    rows = [row(n, conversion.convert(path), path) for n, path in paths.items()]
    blob = conversion.build(pruned_ic(models_folder(), 0.9))
    rows.append(row("ic, 90 % zeros", blob, paths["ic"]))
    text = HEAD + "\n".join(rows) + "\n"
    print(text, end="")
    if args.write:
        TABLE.write_text(text, encoding="utf-8")
    return 0


HEAD: Final = """\
# Speed on the host

Printed by `make bench-host`. **Measured**: milliseconds of one inference, one thread, the fastest
of 30, on a machine whose speed does not matter; the ratio does. tflite-runtime runs its default
kernels; the model with zeros is compared with the dense one there.

| model | zeroskip | tflite-runtime | ratio |
|---|---:|---:|---:|
"""

if __name__ == "__main__":
    sys.exit(main())
