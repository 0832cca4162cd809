"""zeroskip flash MODEL.zsk|FIRMWARE.elf --board BOARD [--runner R] [--dry-run]"""

import argparse
import tempfile
from pathlib import Path

from zeroskip import boards, elf, firmware
from zeroskip.boards import Board
from zeroskip.cli.build import add_compiler_arguments
from zeroskip.cli.table import render
from zeroskip.errors import InputError
from zeroskip.runners import RUNNERS, Job, choose
from zeroskip.runtime import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, nargs="?", help="a .zsk file, or firmware that `zeroskip build` made"
    )
    parser.add_argument("--board", help="a name from `zeroskip boards`, or a folder")
    parser.add_argument("--runner", help="how to write: see --list; default: the first that can")
    parser.add_argument(
        "--list", action="store_true", help="list the runners, for a --board what they need"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument("--probe", metavar="ID", help="the debug probe, if there are several")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="a CMSIS-Pack for pyocd")
    parser.add_argument("--port", metavar="DEVICE", help="the serial port of a bootloader")
    parser.add_argument("--gdb", metavar="HOST:PORT", help="a gdb server")
    parser.add_argument("--drive", type=Path, metavar="FOLDER", help="a mounted UF2 drive")
    add_compiler_arguments(parser)


def run(args: argparse.Namespace) -> int:
    board = boards.load(args.board) if args.board is not None else None
    if args.list:
        print("\n".join(_listing(board)))
        return 0
    if board is None or args.file is None:
        raise InputError("needs a file and --board; --list lists the ways to write")
    if args.pack is not None and not args.pack.is_file():
        raise InputError(f"{args.pack}: no such file")
    with tempfile.TemporaryDirectory(prefix="zeroskip-") as scratch:
        job = _job(args, board, Path(scratch))
        runner = choose(board, job, args.runner)
        if args.dry_run:
            print(f"{runner.name} would, for {board.title}:")
            print("\n".join(f"  {line}" for line in runner.plan(board, job)))
            return 0
        print("\n".join(runner.write(board, job)))
        if not runner.capabilities.verifies:
            print(f"{runner.name} cannot read back: `zeroskip measure` will tell if it runs")
    return 0


def _job(args: argparse.Namespace, board: Board, folder: Path) -> Job:
    path = args.file
    if path.suffix == ".zsk":
        Model.load(path)  # refuses on the host what the device would refuse
        built = folder / f"{path.stem}.elf"
        firmware.build(path.read_bytes(), board, output=built, compiler=args.compiler,
                       optimize=args.optimize)  # fmt: skip
        path = built
    image = elf.parse(path.read_bytes())
    return Job(path, image, args.port, args.probe, args.pack, args.gdb, args.drive)


def _listing(board: Board | None) -> list[str]:
    rows = []
    for runner in RUNNERS.values():
        can = runner.capabilities
        row = [runner.name, *("yes" if x else "no" for x in (can.verifies, can.checks_chip))]
        if board is not None:
            nothing = Job(Path(), elf.Elf(b"", 0, (), (), {}, ()))
            row.append(runner.refuses(board, nothing) or "ready")
        rows.append(row)
    head = ["runner", "reads back", "checks the chip"]
    if board is not None:
        head.append(board.name)
    return render(head, rows, left=range(len(head)))
