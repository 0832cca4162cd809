"""zeroskip convert MODEL -o OUT.zsk"""

import argparse
from pathlib import Path

from zeroskip.conversion import convert, load_arrays
from zeroskip.converters.container import describe
from zeroskip.tools import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help=".tflite, or .pt2 of torch.export.save")
    parser.add_argument("-o", "--output", type=Path, required=True, help="container to write")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="X.npz",
        help="inputs (N, ...) to quantise a PyTorch model with, .npy or .npz",
    )
    parser.add_argument(
        "--clipping",
        choices=("mse", "minmax"),
        default="mse",
        help="activation ranges: least squared error, or all that was seen (default: mse)",
    )
    parser.add_argument("--float32", action="store_true", help="keep a PyTorch model in float32")
    parser.add_argument(
        "--float-io", action="store_true", help="quantised model with float32 inputs and outputs"
    )
    parser.add_argument(
        "--prefer",
        choices=("size", "speed"),
        default="size",
        help="weight codecs: fewest bytes, or fastest to decode (default: size)",
    )
    parser.add_argument("--strip", action="store_true", help="leave the names of layers out")


def run(args: argparse.Namespace) -> int:
    blob = convert(
        args.model,
        calibration=load_arrays(args.calibration) if args.calibration is not None else None,
        clipping=args.clipping,
        float32=args.float32,
        float_io=args.float_io,
        prefer=args.prefer,
        names=not args.strip,
    )
    write_whole(args.output, blob)
    summary = describe(blob)
    source = args.model.stat().st_size
    print(
        f"{args.output}: {len(blob):,} bytes ({args.model.name}: {source:,}), "
        f"arena {summary.arena_bytes:,} bytes, {len(summary.ops)} ops, "
        f"{summary.macs:,} MACs of which {summary.macs_nonzero_weight:,} with a non-zero weight"
    )
    return 0
