"""zeroskip flash MODEL.zsk|FIRMWARE.elf --board BOARD [--runner R] [--dry-run]"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

from zeroskip import boards, elf, firmware
from zeroskip.boards import Board
from zeroskip.cli.build import add_compiler_arguments
from zeroskip.cli.table import render
from zeroskip.errors import FormatError, InputError
from zeroskip.runners import Job, choose, runner, runner_names
from zeroskip.runtime import Model

ELF_MAGIC: Final = b"\x7fELF"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, nargs="?", help="a .zsk file, or an ELF file for this board"
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
        chosen = choose(board, job, args.runner)
        if args.dry_run:
            print(f"{chosen.name} would, with {args.file} for {board.title}:")
            print("\n".join(f"  {line}" for line in chosen.plan(board, job)))
            return 0
        print("\n".join(chosen.write(board, job)))
        if not chosen.capabilities.verifies:
            print(f"{chosen.name} cannot read back: `zeroskip measure` will tell if it runs")
    return 0


def _job(args: argparse.Namespace, board: Board, folder: Path) -> Job:
    path, content = args.file, args.file.read_bytes()
    if not content.startswith(ELF_MAGIC):
        Model.load(path)  # refuses on the host what the device would refuse
        path = folder / "firmware.elf"
        firmware.build(content, board, output=path, compiler=args.compiler,
                       optimize=args.optimize)  # fmt: skip
        content = path.read_bytes()
    try:
        image = elf.parse(content)
    except FormatError as error:
        raise FormatError(f"{args.file}: {error}") from error
    return Job(path, image, args.port, args.probe, args.pack, args.gdb, args.drive)


def _listing(board: Board | None) -> list[str]:
    rows = []
    for name in runner_names():
        found = runner(name)
        can = found.capabilities
        row = [name, *("yes" if x else "no" for x in (can.verifies, can.checks_chip))]
        if board is not None:
            nothing = Job(Path(), elf.Elf(b"", 0, (), (), {}, ()))
            row.append(found.refuses(board, nothing) or "ready")
        rows.append(row)
    head = ["runner", "reads back", "checks the chip"]
    if board is not None:
        head.append(board.name)
    return render(head, rows, left=range(len(head)))
