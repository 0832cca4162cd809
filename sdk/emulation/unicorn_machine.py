"""Running emulated firmware under Unicorn: memories, semihosting, execution counts."""

from __future__ import annotations

import ctypes
import os
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from zeroskip import elf
from zeroskip.boards import Board
from zeroskip.emulation.profile import (
    Marks,
    Profile,
    PythonTrace,
    compile_trace,
    memory_shape,
    read_profile,
)
from zeroskip.emulation.protocol import Fault
from zeroskip.emulation.semihosting import Semihosting
from zeroskip.errors import EmulationError, MissingToolError
from zeroskip.tools import host_compiler

_PAGE: Final = 4096
_SYSTEM_START: Final = 0xE0000000  # private peripheral bus: SCB, DWT, SysTick
_SYSTEM_SIZE: Final = 0x100000
_EXCP_BKPT: Final = 7  # target/arm/cpu.h of QEMU, on which Unicorn is built
_SEMIHOSTING_BKPT: Final = b"\xab\xbe"
_COUNTS: Final = "counts.txt"
_EXCEPTIONS: Final = {1: "undefined instruction", 3: "prefetch abort", 4: "data abort",
                      17: "no coprocessor", 18: "invalid state"}  # fmt: skip


def run(image: Path, board: Board, folder: Path, marks: Marks, timeout_s: float) -> Profile | Fault:
    """Run `image` in `folder`, which holds input.bin and receives result.bin.

    Returns the execution counts, or the fault that ended the run. Without a C compiler they
    are counted in Python. Raises EmulationError if time runs out.
    """
    machine = _Machine(elf.parse(image.read_bytes()), board, folder)
    if host_compiler() is None:
        python = PythonTrace(marks)
        machine.count_in_python(python)
        return machine.run(timeout_s) or python.profile
    library = compile_trace(qemu_plugin=False)
    with _NativeTrace(library, marks, memory_shape(board)) as native:
        machine.count_natively(native)
        fault = machine.run(timeout_s)
        if fault is not None or machine.exit_status != 0:
            return fault or {}
        native.write(folder / _COUNTS)
    return read_profile(folder / _COUNTS)


class _Machine:
    """A core, its memories, and the files of the host."""

    def __init__(self, image: elf.Elf, board: Board, folder: Path) -> None:
        try:
            unicorn: Any = import_module("unicorn")
            arm_const: Any = import_module("unicorn.arm_const")
        except ImportError as error:
            raise MissingToolError(
                "Unicorn is not installed (pip install 'zeroskip[emulate]')"
            ) from error
        self._unicorn = unicorn
        self._arm = arm_const
        self._files = Semihosting(folder)
        self._fault: Fault | None = None
        self.exit_status: int | None = None
        if board.core.unicorn_cpu is None:
            raise EmulationError(f"Unicorn has no {board.core.name}")
        cpu = board.core.unicorn_cpu.replace("-", "_").upper()
        self._uc = uc = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{cpu}"))
        place = board.emulation
        uc.mem_map(
            place.flash_start,
            _round_up(board.flash.size),
            unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC,
        )
        uc.mem_map(place.ram_start, _round_up(board.ram.size))
        uc.mem_map(_SYSTEM_START, _SYSTEM_SIZE)
        for segment in image.segments:
            uc.mem_write(segment.load_address, segment.data)
        stack = int.from_bytes(image.read(place.flash_start, 4), "little")
        self._reset = int.from_bytes(image.read(place.flash_start + 4, 4), "little")
        uc.reg_write(arm_const.UC_ARM_REG_SP, stack)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)

    def count_in_python(self, trace: PythonTrace) -> None:
        def on_block(uc: Any, address: int, size: int, user: Any) -> None:
            trace.enter(address & ~1, size)

        self._uc.hook_add(self._unicorn.UC_HOOK_BLOCK, on_block)

    def count_natively(self, trace: _NativeTrace) -> None:
        """Let Unicorn call trace_unicorn_block() itself, past the Python binding."""
        library = ctypes.CDLL(_library_path(self._unicorn))
        library.uc_hook_add.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_uint64, ctypes.c_uint64,
        ]  # fmt: skip
        hooks = [(self._unicorn.UC_HOOK_BLOCK, trace.on_block, (1, 0))]  # 1 to 0: anywhere
        if trace.flash is not None:
            hooks.append((self._unicorn.UC_HOOK_MEM_READ, trace.on_load, trace.flash))
        for kind, callback, (begin, end) in hooks:
            handle = ctypes.c_size_t()
            status = library.uc_hook_add(
                self._uc._uch, ctypes.byref(handle), kind, callback, trace.pointer, begin, end
            )
            if status != 0:
                raise EmulationError(f"Unicorn refused a hook: status {status}")

    def run(self, timeout_s: float) -> Fault | None:
        """Run from reset until the firmware exits. Returns a fault if there was one."""
        try:
            self._uc.emu_start(self._reset | 1, 0, timeout=int(timeout_s * 1e6))
        except self._unicorn.UcError as error:
            return self._fault_here(str(error))
        if self._fault is not None:
            return self._fault
        if self.exit_status is None:
            raise EmulationError(f"the firmware did not end: ran longer than {timeout_s:g} s")
        return None

    def _on_exception(self, uc: Any, number: int, user: Any) -> None:
        pc = uc.reg_read(self._arm.UC_ARM_REG_PC)
        if number == _EXCP_BKPT and bytes(uc.mem_read(pc, 2)) == _SEMIHOSTING_BKPT:
            operation = uc.reg_read(self._arm.UC_ARM_REG_R0)
            block = uc.reg_read(self._arm.UC_ARM_REG_R1)
            answer = self._files.call(operation, block, uc.mem_read, uc.mem_write)
            if answer is None:
                self.exit_status = self._files.exit_status
                uc.emu_stop()
                return
            uc.reg_write(self._arm.UC_ARM_REG_R0, answer & 0xFFFFFFFF)
            uc.reg_write(self._arm.UC_ARM_REG_PC, (pc + 2) | 1)
            return
        self._fault = self._fault_here(_EXCEPTIONS.get(number, f"exception {number}"))
        uc.emu_stop()

    def _fault_here(self, reason: str) -> Fault:
        return Fault(
            pc=self._uc.reg_read(self._arm.UC_ARM_REG_PC) & ~1,
            lr=self._uc.reg_read(self._arm.UC_ARM_REG_LR),
            cause=0,
            reason=reason,
        )


class _NativeTrace:
    """A struct trace of the compiled trace.c."""

    def __init__(self, library: Path, marks: Marks, shape: tuple[int, ...] | None) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.trace_new.restype = ctypes.c_void_p
        self._library.trace_free.argtypes = [ctypes.c_void_p]
        self._library.trace_write.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library.trace_write.restype = ctypes.c_bool
        values = (marks.run, marks.op, marks.op_end, marks.between, marks.stop)
        self._library.trace_new.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        numbers = None if shape is None else (ctypes.c_uint32 * len(shape))(*shape)
        self.flash = None if shape is None else (shape[0], shape[0] + shape[1] - 1)
        self.pointer = self._library.trace_new((ctypes.c_uint32 * 5)(*values), numbers)
        if not self.pointer:
            raise EmulationError("no memory for the instruction counter")
        self.on_block = ctypes.cast(self._library.trace_unicorn_block, ctypes.c_void_p)
        self.on_load = ctypes.cast(self._library.trace_unicorn_load, ctypes.c_void_p)

    def __enter__(self) -> _NativeTrace:
        return self

    def __exit__(self, *exception: object) -> None:
        self._library.trace_free(self.pointer)

    def write(self, path: Path) -> None:
        if not self._library.trace_write(self.pointer, os.fsencode(path)):
            raise EmulationError("the execution counts could not be written")


def _library_path(unicorn: Any) -> str:
    """The shared library that the unicorn package has loaded."""
    folder = Path(unicorn.__file__).parent / "lib"
    for pattern in ("libunicorn.so*", "libunicorn*.dylib"):
        for path in sorted(folder.glob(pattern)):
            return str(path)
    raise EmulationError(f"no Unicorn library in {folder}")


def _round_up(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
