"""Firmware: the C runtime, one model and the port, compiled and linked for a board.

The cross compiler is arm-none-eabi-gcc when it is on PATH, otherwise the one in the `ziglang`
package. Nothing of a C library is used, so that both give a complete image.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import numpy as np

from zeroskip import elf
from zeroskip.boards import Board
from zeroskip.converters.description import (
    RUNTIME_OPTIONS,
    Description,
    describe,
    runtime_options,
)
from zeroskip.errors import FitError, InputError, MissingToolError, ToolError
from zeroskip.tools import cache_folder, cached, find_program, has_package, run_tool, write_whole

Compiler = Literal["gcc", "zig"]
Image = Literal["board", "emulated"]
Optimize = Literal["s", "2", "3"]

_COMPILE_TIMEOUT_S: Final = 300.0
_COMMON_FLAGS: Final = (
    "-std=c99",
    "-mthumb",
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    "-ffp-contract=off",
    "-fno-common",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
    "-g0",
)
_ZIG_FLAGS: Final = ("-fno-sanitize=all", "-fno-pic", "-Wno-unused-command-line-argument")
_PORT_COMMON: Final = ("startup.c", "memory.c", "marks.S")
_SECTIONS: Final = (".boot2", ".vectors", ".text", ".model", ".stack", ".data", ".bss", ".arena",
    ".input",
)  # fmt: skip
_HEADERS: Final = ("port.h", "semihost.h", "rp2.h", "stm32.h", "stm32f.h")
_SMALL: Final = ("port/main_harness", "port/console_")
_BOOT2_BYTES: Final = 256
ENERGY_BAUD: Final = 9600  # what the MLPerf Tiny runner speaks in energy mode

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sizes:
    """What an image takes, in bytes, from the linked file."""

    flash_model: int
    flash_code: int
    ram_arena: int
    ram_input: int
    ram_stack: int
    ram_data: int

    @property
    def flash(self) -> int:
        return self.flash_model + self.flash_code

    @property
    def ram(self) -> int:
        return self.ram_arena + self.ram_input + self.ram_stack + self.ram_data


@dataclass(frozen=True)
class Firmware:
    """A linked image. `flash_code` of `sizes` is everything in flash but the model; `ram_input` is
    where the board's image keeps its input, 0 if there was no room."""

    path: Path
    board: Board
    compiler: Compiler
    image: Image
    sizes: Sizes


def choose_compiler(wanted: Compiler | None = None) -> Compiler:
    """The cross compiler to use: the wanted one, or gcc before zig.

    Raises MissingToolError if it is not installed.
    """
    available: dict[Compiler, bool] = {
        "gcc": find_program("arm-none-eabi-gcc") is not None,
        "zig": has_package("ziglang"),
    }
    if wanted is None:
        for name, there in available.items():
            if there:
                return name
    elif wanted not in available:
        raise InputError(f"compiler '{wanted}' is not one of gcc, zig")
    elif available[wanted]:
        return wanted
    raise MissingToolError(
        f"no cross compiler{f' {wanted}' if wanted else ''}: install arm-none-eabi-gcc "
        "(apt install gcc-arm-none-eabi) or zig (pip install 'zeroskip[emulate]')"
    )


def build(
    container: bytes,
    board: Board,
    *,
    output: Path,
    compiler: Compiler | None = None,
    image: Image = "board",
    optimize: Optimize = "2",
    model_name: str | None = None,
    energy_mode: bool = False,
) -> Firmware:
    """Compile and link firmware that holds `container`; write the ELF file `output`.

    Ops, codecs and element types that the container does not use are left out of the code.
    `image` "board" is for the board's own memory map and answers on its serial port, as
    `model_name` (default: "zsk" and the container's checksum), from the start in the energy mode
    of the MLPerf Tiny harness with `energy_mode`: 9600 baud, edges of the trigger pin instead of
    times. "emulated" is for the memory map of the emulated machine (`board.emulation`), reads
    inputs and writes results through semihosting. Equal inputs give equal bytes.

    Raises FormatError if `container` is none, FitError if the image does not fit the board,
    MissingToolError without a compiler, ToolError if it fails. `output` appears whole or not
    at all.
    """
    description = describe(container)
    arena_bytes = description.arena_bytes
    if len(container) > board.flash.size:
        raise _flash_error(board, len(container), len(container), 0)
    if arena_bytes + board.stack.size > board.ram.size:
        raise _ram_error(board, arena_bytes, 0)
    unneeded = RUNTIME_OPTIONS - runtime_options(container)
    driver = _Driver(choose_compiler(compiler), board, image, optimize, unneeded, energy_mode)
    objects = driver.objects()
    with tempfile.TemporaryDirectory(prefix="zeroskip-") as scratch:
        folder = Path(scratch)
        name = _model_name(container, model_name)
        content, sizes = b"", None
        for input_bytes in _input_rooms(description, image):
            content = driver.link(folder, objects, container, arena_bytes, input_bytes, name)
            sizes = _sizes(elf.parse(content), driver.flash_start, driver.ram_start)
            if sizes.ram <= board.ram.size:
                break
        assert sizes is not None
    parsed = elf.parse(content)
    _log.info(
        "%s for %s by %s: flash %d of %d bytes (model %d), RAM %d of %d bytes (arena %d)",
        output, board.name, driver.compiler, sizes.flash, board.flash.size, sizes.flash_model,
        sizes.ram, board.ram.size, sizes.ram_arena,
    )  # fmt: skip
    if sizes.flash > board.flash.size:
        raise _flash_error(board, sizes.flash, sizes.flash_model, sizes.flash_code)
    if sizes.ram > board.ram.size:
        raise _ram_error(board, sizes.ram_arena, sizes.ram_data)
    if driver.boot2:
        content = _seal_boot2(parsed)
    write_whole(output, content)
    return Firmware(output, board, driver.compiler, image, sizes)


class _Driver:
    """One compiler, set up for one board and kind of image."""

    def __init__(
        self,
        compiler: Compiler,
        board: Board,
        image: Image,
        optimize: str,
        unneeded: frozenset[str],
        energy_mode: bool,
    ) -> None:
        if optimize not in ("s", "2", "3"):
            raise InputError(f"optimization '{optimize}' is not one of s, 2, 3")
        if image not in ("board", "emulated"):
            raise InputError(f"image '{image}' is not one of board, emulated")
        self.compiler: Compiler = compiler
        self.board = board
        emulated = image == "emulated"
        self.flash_start = board.emulation.flash_start if emulated else board.flash.start
        self.ram_start = board.emulation.ram_start if emulated else board.ram.start
        self.boot2 = not emulated and board.boot == "rp2040-boot2"
        core = board.core
        self._port: tuple[str, ...]
        if emulated:
            self._port = (*_PORT_COMMON, "semihost.c", "main_emulated.c")
            # Unaligned accesses fault on ARMv6-M; make the machine that stands in trap them too.
            armv6m = core.unicorn_cpu == "cortex-m0"
            defines = [f"-DPORT_TRAP_UNALIGNED={int(armv6m)}"]
        else:
            self._port = (
                *_PORT_COMMON, "cycles.c", f"console_{board.console.driver}.c", "main_harness.c",
                *(["boot2_rp2040.S"] if self.boot2 else []),
            )  # fmt: skip
            # Emulators do not count in the DWT, but in SysTick, though not the core's cycles.
            emulates_counter = board.console.driver == "cmsdk"
            dwt = core.cycle_counter == "dwt" and not emulates_counter
            defines = [
                "-DPORT_TRAP_UNALIGNED=0",
                f"-DPORT_CYCLES_DWT={int(dwt)}",
                f"-DPORT_CLOCK_HZ={board.clock.startup_hz}u",
                f'-DPORT_BOARD_NAME="{board.name}"',
                f'-DPORT_CORE_NAME="{core.name}"',
                f"-DPORT_ENERGY_MODE={int(energy_mode)}",
                f"-DPORT_TRIGGER={int(board.trigger is not None)}",
                f"-DPORT_FLASH_CACHE={int(_has_cache(board))}",
                f"-DPORT_CONSOLE_BASE={board.console.base:#x}u",
                f"-DPORT_CONSOLE_CLOCK_HZ={board.console.clock_hz}u",
                f"-DPORT_CONSOLE_BAUD={ENERGY_BAUD if energy_mode else board.console.baud}u",
            ]
            for pin, number in (("TX", board.console.tx), ("RX", board.console.rx)):
                if number is not None:
                    defines.append(f"-DPORT_CONSOLE_{pin}={number}u")
            if board.trigger is not None:
                defines += [
                    f"-DPORT_TRIGGER_PORT={board.trigger.port:#x}u",
                    f"-DPORT_TRIGGER_BIT={board.trigger.bit}u",
                ]
        if compiler == "gcc":
            self._command = [str(find_program("arm-none-eabi-gcc"))]
            self._target = list(core.compiler.gcc_flags)
        else:
            self._command = [sys.executable, "-m", "ziglang", "cc"]
            self._target = ["-target", core.compiler.zig_target, f"-mcpu={core.compiler.zig_cpu}"]
            self._target += _ZIG_FLAGS
        self._target += [*_COMMON_FLAGS, f"-O{optimize}"]
        defines += [f"-D{option}=0" for option in sorted(unneeded)]
        self._compile_flags = [*self._target, "-Iinclude", "-isystem", "libc", *defines]

    def objects(self) -> Path:
        """The folder with the compiled runtime and port, from the cache if it is there."""
        files = _source_files(self._port)
        version = run_tool([*self._command, "--version"], timeout_s=60).stdout
        state = hashlib.sha256()
        for text in (version, *self._compile_flags, *_SMALL):
            state.update(text.encode() + b"\0")
        for name, data in sorted(files.items()):
            state.update(f"{name}\0{len(data)}\0".encode() + data)
        key = f"{self.board.core.name}-{self.compiler}-{state.hexdigest()[:24]}"
        return cached(cache_folder("objects"), key, lambda path: self._compile(files, path))

    def _compile(self, files: dict[str, bytes], target: Path) -> None:
        _log.info("compiling the runtime for %s with %s", self.board.core.name, self.compiler)
        target.mkdir()
        with tempfile.TemporaryDirectory(prefix="zeroskip-") as scratch:
            folder = Path(scratch)
            for name, data in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(data)
            sources = sorted(n for n in files if n.endswith((".c", ".S")) and "model.S" not in n)

            def compile_one(name: str) -> None:
                made = target / (Path(name).stem + ".o")
                # What talks over the serial line need not be fast.
                small = ["-Os"] if name.startswith(_SMALL) else []
                self._run([*self._compile_flags, *small, "-c", name, "-o", str(made)], folder)

            # Relative names and one working directory: no path of this machine in the objects.
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                list(pool.map(compile_one, sources))

    def link(
        self,
        folder: Path,
        objects: Path,
        container: bytes,
        arena_bytes: int,
        input_bytes: int,
        name: str,
    ) -> bytes:
        """The linked ELF file."""
        (folder / "model.zsk").write_bytes(container)
        (folder / "model.S").write_bytes(_resource("port", "model.S"))
        (folder / "name.S").write_text(
            '.section .rodata.port_model_name, "a"\n.global port_model_name\n'
            f'port_model_name: .asciz "{name}"\n'
        )
        script = linker_script(
            self.flash_start, self.ram_start, self.board.stack.size, arena_bytes, input_bytes
        )
        (folder / "link.ld").write_text(script)
        for source in ("model", "name"):
            self._run([*self._target, "-c", f"{source}.S", "-o", f"{source}.o"], folder)
        self._run(
            [
                *self._target, "-nostdlib", "-static", "-T", "link.ld", "-Wl,--gc-sections",
                "-Wl,--build-id=none", "-Wl,-e,port_reset", "model.o", "name.o",
                *sorted(str(p) for p in objects.glob("*.o")),
                "-lgcc" if self.compiler == "gcc" else "-lcompiler_rt", "-o", "firmware.elf",
            ],
            folder,
        )  # fmt: skip
        return (folder / "firmware.elf").read_bytes()

    def _run(self, arguments: Sequence[str], folder: Path) -> None:
        run_tool(
            [*self._command, *arguments],
            timeout_s=_COMPILE_TIMEOUT_S,
            cwd=folder,
            environment={"LC_ALL": "C"},
        )


def linker_script(
    flash_start: int, ram_start: int, stack_bytes: int, arena_bytes: int = 0, input_bytes: int = 0
) -> str:
    """The port's linker script for these addresses and sizes."""
    script = _resource("port", "link.ld.in").decode()
    for name, value in {
        "FLASH_START": flash_start,
        "RAM_START": ram_start,
        "STACK_SIZE": stack_bytes,
        "ARENA_SIZE": arena_bytes,
        "INPUT_SIZE": input_bytes,
    }.items():
        script = script.replace(f"@{name}@", f"{value:#x}")
    return script


def _source_files(port: Sequence[str]) -> dict[str, bytes]:
    """Everything that is compiled, by its path in the build folder."""
    root = resources.files("zeroskip.runtime_c")
    files: dict[str, bytes] = {}
    for folder in ("include", "src"):
        for entry in root.joinpath(folder).iterdir():
            if entry.name.endswith((".c", ".h")):
                files[f"{folder}/{entry.name}"] = entry.read_bytes()
    for name in (*port, *_HEADERS):
        files[f"port/{name}"] = _resource("port", name)
    files["libc/string.h"] = _resource("port", "string.h")
    return files


def _resource(*path: str) -> bytes:
    return resources.files("zeroskip.runtime_c").joinpath(*path).read_bytes()


def _sizes(parsed: elf.Elf, flash_start: int, ram_start: int) -> Sizes:
    by_name = {s.name: s for s in parsed.sections if s.allocated and s.size}
    if unknown := sorted(set(by_name) - set(_SECTIONS)):
        raise ToolError(f"the linker placed unknown sections: {', '.join(unknown)}")
    size = {name: by_name[name].size if name in by_name else 0 for name in _SECTIONS}
    in_flash = [s for s in parsed.segments if s.data]
    flash_end = max(s.load_address + len(s.data) for s in in_flash)
    ram_end = max(
        by_name[n].address + size[n]
        for n in (".stack", ".data", ".bss", ".arena", ".input")
        if n in by_name
    )
    model = size[".model"]
    return Sizes(
        flash_model=model,
        flash_code=flash_end - flash_start - model,
        ram_arena=size[".arena"],
        ram_input=size[".input"],
        ram_stack=size[".stack"],
        ram_data=ram_end - ram_start - size[".arena"] - size[".input"] - size[".stack"],
    )


def _has_cache(board: Board) -> bool:
    return board.flash_timing is not None and board.flash_timing.instruction_cache is not None


def _input_rooms(description: Description, image: Image) -> tuple[int, ...]:
    """The bytes to keep the inputs in, beside the arena, that are worth trying."""
    if image != "board":
        return (0,)
    needed = sum(int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize for t in description.inputs)
    return (needed, 0)


def _model_name(container: bytes, wanted: str | None) -> str:
    """A name that a serial line and an assembler can carry. Raises InputError."""
    if wanted is None:
        return f"zsk{int.from_bytes(container[-4:], 'little'):08x}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", wanted):
        raise InputError(
            f"a model's name is 1 to 40 letters, digits, '_', '.', '-': not '{wanted}'"
        )
    return wanted


def _flash_error(board: Board, needed: int, model: int, code: int) -> FitError:
    parts = f"model {model}, code {code}" if code else "the model alone"
    return FitError(
        f"does not fit {board.name}: flash needs {needed} of {board.flash.size} bytes ({parts}); "
        "prune further, share weights (zeroskip prune), or take a board with more flash"
    )


def _ram_error(board: Board, arena: int, data: int) -> FitError:
    needed = arena + data + board.stack.size
    return FitError(
        f"does not fit {board.name}: RAM needs {needed} of {board.ram.size} bytes (arena {arena}, "
        f"stack {board.stack.size}, data {data}); use a smaller input or fewer channels in the "
        "widest layers, or take a board with more RAM"
    )


def _seal_boot2(parsed: elf.Elf) -> bytes:
    """Fill in the checksum that the RP2040's mask ROM wants behind its second boot stage."""
    section = parsed.section(".boot2")
    if section is None or section.size != _BOOT2_BYTES:
        raise ToolError("the linker left out the RP2040's second boot stage")
    content = bytearray(parsed.content)
    stage = bytes(content[section.offset : section.offset + _BOOT2_BYTES - 4])
    struct.pack_into("<I", content, section.offset + _BOOT2_BYTES - 4, crc32_mpeg2(stage))
    return bytes(content)


def crc32_mpeg2(data: bytes) -> int:
    """CRC-32/MPEG-2: polynomial 0x04C11DB7, not reflected, start all ones, no final xor.

    That of RP2040 Datasheet section 2.8.1.3.1.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc
