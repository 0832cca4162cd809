"""zeroskip build OUT.zsk --board BOARD -o FIRMWARE.elf"""

import argparse
from pathlib import Path

from zeroskip import boards, firmware
from zeroskip.runtime import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", type=Path, help="a .zsk file")
    parser.add_argument(
        "--board", required=True, help="a name from `zeroskip boards`, or a folder with board.toml"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FIRMWARE.elf", help="the ELF file"
    )
    parser.add_argument(
        "--name", help="what the firmware calls the model, such as kws01 (a checksum)"
    )
    parser.add_argument(
        "--energy-mode", action="store_true",
        help="start as the MLPerf Tiny runner wants it for energy: 9600 baud, trigger edges",
    )  # fmt: skip
    add_compiler_arguments(parser)


def add_compiler_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every command that compiles."""
    parser.add_argument(
        "--compiler",
        choices=("gcc", "zig"),
        help="cross compiler (arm-none-eabi-gcc if it is there, else zig)",
    )
    parser.add_argument(
        "--optimize", choices=("s", "2", "3"), default="2", help="for size or speed (2)"
    )


def run(args: argparse.Namespace) -> int:
    board = boards.load(args.board)
    Model.load(args.container)  # refuses on the host what the device would refuse
    built = firmware.build(
        args.container.read_bytes(),
        board,
        output=args.output,
        compiler=args.compiler,
        optimize=args.optimize,
        model_name=args.name,
        energy_mode=args.energy_mode,
    )
    s = built.sizes
    print(f"{args.output}: firmware for {board.title}, compiled with {built.compiler}")
    print(
        f"flash {s.flash:,} of {board.flash.size:,} bytes: "
        f"model {s.flash_model:,}, code {s.flash_code:,}"
    )
    print(
        f"RAM   {s.ram:,} of {board.ram.size:,} bytes: "
        f"arena {s.ram_arena:,}, input {s.ram_input:,}, stack {s.ram_stack:,}, data {s.ram_data:,}"
    )
    return 0
