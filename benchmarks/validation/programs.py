"""Building and counting a program on an emulated core."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from zeroskip import elf
from zeroskip.boards import Board
from zeroskip.emulation import qemu
from zeroskip.emulation.profile import Profile, marks_of
from zeroskip.firmware import linker_script
from zeroskip.tools import run_tool

HERE: Final = Path(__file__).resolve().parent
_STACK_BYTES: Final = 64 * 1024
_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True)
class Program:
    """Sources of others, and what of ours they need; `options` are the compiler's, `generated`
    files that are written beside them."""

    sources: Sequence[Path]
    own: Sequence[str]
    include: Sequence[Path]
    options: Sequence[str]
    generated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Counted:
    """A program's image, its counts by region, and the bytes that it reported."""

    image: elf.Elf
    profile: Profile
    report: bytes


def count(program: Program, board: Board) -> Counted:
    """Build a program with arm-none-eabi-gcc and newlib for the emulated map of a board, run it
    under QEMU. Raises ToolError, EmulationError."""
    port = resources.files("zeroskip.runtime_c").joinpath("port")
    with tempfile.TemporaryDirectory(prefix="zeroskip-") as scratch:
        folder = Path(scratch)
        for entry in port.iterdir():
            if entry.name.endswith((".c", ".h", ".S")):
                (folder / entry.name).write_bytes(entry.read_bytes())
        for name in ("port.c", "validation.h", *program.own):
            (folder / name).write_bytes((HERE / name).read_bytes())
        for name, text in program.generated.items():
            (folder / name).write_text(text)
        place = board.emulation
        script = linker_script(place.flash_start, place.ram_start, _STACK_BYTES)
        (folder / "link.ld").write_text(script)
        own = ["startup.c", "marks.S", "semihost.c", "port.c"]
        own += [name for name in program.own if name.endswith(".c")]
        run_tool(
            [
                "arm-none-eabi-gcc", *_target(program, board), "-mthumb", "-std=gnu11",
                "-ffunction-sections", "-fdata-sections", "-fno-common", "-DPORT_TRAP_UNALIGNED=0",
                "-nostartfiles", "-static", "-T", "link.ld", "-Wl,--gc-sections", "-w",
                *program.options, "-I.", *(f"-I{path}" for path in program.include),
                *own, *program.sources, "-o", "program.elf",
            ],
            timeout_s=_TIMEOUT_S,
            cwd=folder,
        )  # fmt: skip
        path = folder / "program.elf"
        image = elf.parse(path.read_bytes())
        profile = qemu.run(path, board, folder, marks_of(image), _TIMEOUT_S)
        return Counted(image, profile, (folder / "result.bin").read_bytes())


def _target(program: Program, board: Board) -> list[str]:
    """The options that name the core, unless the program has its own."""
    flags = board.core.compiler.gcc_flags
    own = any(option.startswith("-march") for option in program.options)
    return [flag for flag in flags if not (own and flag.startswith("-mcpu"))]
