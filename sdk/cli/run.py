"""zeroskip run OUT.zsk --input X.npy --output Y.npy"""

import argparse
import io
from pathlib import Path

import numpy as np

from zeroskip.conversion import load_arrays
from zeroskip.errors import InputError
from zeroskip.runtime import Model
from zeroskip.tools import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", type=Path, help="a .zsk file")
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="X.npy",
        help="inputs (N, ...): the model's integers, or floats to be quantised; "
        "a .npz with one array per input for several",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="Y.npy",
        help="where the outputs (N, ...) go; .npz for several",
    )
    parser.add_argument(
        "--float", action="store_true", help="write real values instead of quantised integers"
    )


def run(args: argparse.Namespace) -> int:
    model = Model.load(args.container)
    several = len(model.outputs) > 1
    if several and args.output.suffix != ".npz":
        raise InputError(f"the model has {len(model.outputs)} outputs: --output must be a .npz")
    result = model.run(*load_arrays(args.input))
    outputs = result if isinstance(result, list) else [result]
    if args.float:
        outputs = [p.dequantize(y) for p, y in zip(model.outputs, outputs, strict=True)]
    buffer = io.BytesIO()
    if args.output.suffix == ".npz":
        np.savez(buffer, **{f"output_{i}": y for i, y in enumerate(outputs)})
    else:
        np.save(buffer, outputs[0])
    write_whole(args.output, buffer.getvalue())
    shapes = ", ".join(f"{y.dtype} {list(y.shape)}" for y in outputs)
    print(f"{args.output}: {shapes}")
    return 0
