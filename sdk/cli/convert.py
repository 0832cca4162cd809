"""zeroskip convert MODEL -o OUT.zsk"""

import argparse
from pathlib import Path

from zeroskip import boards
from zeroskip.conversion import board_budget, convert, load_arrays
from zeroskip.converters.budget import Budget
from zeroskip.converters.container import describe
from zeroskip.errors import InputError
from zeroskip.tools import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help=".tflite, or .pt2 of torch.export.save")
    parser.add_argument("-o", "--output", type=Path, required=True, help="container to write")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="X.npz",
        help="inputs (N, ...), .npy or .npz: what a PyTorch model is quantised with, and how many "
        "activations are zero, which decides between codecs and layouts",
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
        choices=("size", "balanced", "speed"),
        help="fewest bytes; the fastest codecs within 5 %% of those and layers in parts where that "
        "lowers the arena; or fewest estimated cycles (default: balanced)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--board",
        help="the fastest container that fits this board; a name from `zeroskip boards`, or a "
        "folder with board.toml",
    )
    limits.add_argument(
        "--flash",
        type=parse_bytes,
        metavar="N",
        help="bytes for the container, such as 60000 or 64K (board's flash less 32K for code)",
    )
    limits.add_argument(
        "--ram",
        type=parse_bytes,
        metavar="N",
        help="bytes for the arena, scratch included (board's RAM less stack and 512)",
    )
    limits.add_argument(
        "--latency-ms",
        type=float,
        metavar="T",
        help="the smallest container of which an inference is estimated to take at most this",
    )
    parser.add_argument("--strip", action="store_true", help="leave the names of layers out")


def run(args: argparse.Namespace) -> int:
    blob = convert(
        args.model,
        calibration=load_arrays(args.calibration) if args.calibration is not None else None,
        clipping=args.clipping,
        float32=args.float32,
        float_io=args.float_io,
        prefer=args.prefer or "balanced",
        budget=_budget(args),
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


def parse_bytes(text: str) -> int:
    """A number of bytes: digits, then perhaps K or KB for 1,024. Raises ArgumentTypeError."""
    number = text.upper().removesuffix("B").removesuffix("K")
    unit = 1024 if "K" in text.upper() else 1
    plain = text.upper() in (number, number + "K", number + "KB")
    if not (plain and number.isascii() and number.isdigit() and int(number) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of bytes such as 60000 or 64K")
    return int(number) * unit


def _budget(args: argparse.Namespace) -> Budget | None:
    limits = {"--flash": args.flash, "--ram": args.ram, "--latency-ms": args.latency_ms}
    if args.board is None:
        if given := [name for name, value in limits.items() if value is not None]:
            raise InputError(f"{given[0]} needs --board, for its core and clock")
        return None
    if args.prefer is not None:
        raise InputError("--prefer and --board exclude each other: a board's limits decide")
    return board_budget(
        boards.load(args.board),
        flash_bytes=args.flash,
        ram_bytes=args.ram,
        latency_ms=args.latency_ms,
    )
