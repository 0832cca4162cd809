"""The images that `zeroskip build` makes for boards, run as they are: their own memory map,
start-up, clock and serial port registers, down to the text they print.

Unicorn runs all whose core it has with a few lines of model for each family's serial port; QEMU,
whose serial ports are not ours, runs those of the boards it has.
"""

import subprocess
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_models import small_model

from zeroskip import boards, elf, firmware
from zeroskip.runtime import Model

PERIPHERALS = 0x40000000
PERIPHERALS_SIZE = 0x20000000
SYSTEM = 0xE0000000
RP2040_SSI = 0x18000000
RP2040_BOOT_PLACE = 0x20041F00

# Register offsets from the console's base: where characters go, and what a read gives.
UARTS: dict[str, tuple[int, dict[int, int]]] = {
    "cmsdk": (0x00, {0x04: 0}),
    "nrf51": (0x51C, {0x11C: 1}),
    "stm32l4": (0x28, {0x1C: 0x80}),
    "stm32f4": (0x04, {0x00: 0x80}),
    "rp2040": (0x00, {0x18: 0}),
}
# What else answers with more than what was written to it.
RP2040_STATUS = {0x40024004: 1 << 31, 0x40008038: 4, 0x4000C008: 0xFFFFFFFF}


class BoardModel:
    """A board in Unicorn: memories, a serial port, and registers that keep what is written."""

    def __init__(self, image: elf.Elf, board: boards.Board) -> None:
        unicorn = pytest.importorskip("unicorn")
        from unicorn import arm_const

        self.text = ""
        self.registers: dict[int, int] = {}
        data, answers = UARTS[board.console.driver]
        self.data_register = board.console.base + data
        self.answers = {board.console.base + offset: value for offset, value in answers.items()}
        self.answers.update(RP2040_STATUS)
        self.uc = uc = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        assert board.core.unicorn_cpu is not None
        cpu = board.core.unicorn_cpu.replace("-", "_").upper()
        uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{cpu}"))
        uc.mem_map(board.flash.start, board.flash.size)
        uc.mem_map(board.ram.start, board.ram.size)
        uc.mem_map(SYSTEM, 0x100000)
        if board.boot == "rp2040-boot2":
            uc.mmio_map(RP2040_SSI, 0x1000, self._read_ssi, None, self._write_ssi, None)
        size = (
            min(PERIPHERALS_SIZE, board.ram.start - PERIPHERALS)
            if (board.ram.start > PERIPHERALS)
            else PERIPHERALS_SIZE
        )
        uc.mmio_map(PERIPHERALS, size, self._read, None, self._write, None)
        for segment in image.segments:
            uc.mem_write(segment.load_address, segment.data)
        if board.boot == "rp2040-boot2":
            # As the mask ROM does: the first 256 bytes, copied to the end of SRAM.
            uc.mem_write(RP2040_BOOT_PLACE, image.read(board.flash.start, 256))
            self.start = RP2040_BOOT_PLACE
        else:
            stack, self.start = (
                int.from_bytes(image.read(board.flash.start + at, 4), "little") for at in (0, 4)
            )
            uc.reg_write(arm_const.UC_ARM_REG_SP, stack)

    def run(self) -> str:
        self.uc.emu_start(self.start | 1, 0, timeout=60_000_000)
        return self.text

    def _read(self, uc: Any, offset: int, size: int, user: Any) -> int:
        address = PERIPHERALS + offset
        return self.answers.get(address, self.registers.get(address, 0))

    def _write(self, uc: Any, offset: int, size: int, value: int, user: Any) -> None:
        self.registers[PERIPHERALS + offset] = value
        if PERIPHERALS + offset == self.data_register:
            self.text += chr(value)
            if self.text.endswith("done\r\n"):
                uc.emu_stop()

    def _read_ssi(self, uc: Any, offset: int, size: int, user: Any) -> int:
        return self.registers.get(RP2040_SSI + offset, 0)

    def _write_ssi(self, uc: Any, offset: int, size: int, value: int, user: Any) -> None:
        self.registers[RP2040_SSI + offset] = value


def board_image(tmp_path: Path, name: str, compiler: firmware.Compiler) -> Path:
    return firmware.build(
        small_model(0)[0], boards.load(name), output=tmp_path / "f.elf", compiler=compiler
    ).path


def check_text(text: str) -> None:
    """What main_board.c prints, with the checksum of what the host computes from zeros."""
    blob = small_model(0)[0]
    model = Model(blob)
    zeros = [np.zeros((1, *p.shape), p.dtype) for p in model.inputs]
    output = np.asarray(model.run(*zeros))
    lines = text.replace("\r\n", "\n").splitlines()
    assert lines[0] == "zeroskip" and lines[-1] == "done"
    assert lines[1] == f"model {len(blob)} bytes, arena {model.arena_bytes} bytes" or (
        lines[1].startswith(f"model {len(blob)} bytes, arena ")
    )
    ops = [line for line in lines if line.startswith("op ")]
    macs = model.run_counted(*zeros)[1]
    assert len(ops) == model.op_count
    for index, line in enumerate(ops):
        assert line.startswith(f"op {index}: ") and line.endswith(f" cycles, {macs[index]} MACs")
    crc = zlib.crc32(output.tobytes())
    assert f"output 0: {output.nbytes} bytes, crc32 {crc:#010x}" in lines
    assert len(lines) < 40


@pytest.mark.tool("unicorn")
@pytest.mark.parametrize(
    "compiler",
    [
        pytest.param("gcc", marks=pytest.mark.tool("arm-none-eabi-gcc")),
        pytest.param("zig", marks=pytest.mark.tool("ziglang")),
    ],
)
@pytest.mark.parametrize("name", [n for n in boards.names() if boards.load(n).core.unicorn_cpu])
def test_every_board_prints_the_hosts_result(
    name: str, compiler: firmware.Compiler, tmp_path: Path
) -> None:
    board = boards.load(name)
    image = elf.parse(board_image(tmp_path, name, compiler).read_bytes())
    model = BoardModel(image, board)
    check_text(model.run())
    EXPECTED_SETUP[board.console.driver](model, board)


def setup_cmsdk(m: BoardModel, board: boards.Board) -> None:
    assert m.registers[board.console.base + 0x10] == board.console.clock_hz // 115200
    assert m.registers[board.console.base + 0x08] == 1


def setup_nrf51(m: BoardModel, board: boards.Board) -> None:
    # The value that the Reference Manual gives for 115,200 baud.
    assert m.registers[board.console.base + 0x524] == 0x01D7E000
    assert m.registers[board.console.base + 0x50C] == 24


def setup_stm32l4(m: BoardModel, board: boards.Board) -> None:
    assert m.registers[board.console.base + 0x0C] == round(256 * 4_000_000 / 115200)
    assert m.registers[0x48001820] >> 28 == 8 and m.registers[0x48001800] >> 14 & 3 == 2


def setup_stm32f4(m: BoardModel, board: boards.Board) -> None:
    assert m.registers[board.console.base + 0x08] == round(16_000_000 / 115200)
    assert m.registers[0x40020020] >> 8 & 15 == 7 and m.registers[0x40020000] >> 4 & 3 == 2


def setup_rp2040(m: BoardModel, board: boards.Board) -> None:
    whole, fraction = (m.registers[board.console.base + at] for at in (0x24, 0x28))
    assert whole + fraction / 64 == pytest.approx(12_000_000 / (16 * 115200), rel=0.003)
    assert m.registers[RP2040_SSI + 0x08] == 1  # enabled
    assert m.registers[RP2040_SSI + 0xF4] == 0x03000218  # command 03h, 8 + 24 bits, XIP
    assert m.registers[RP2040_SSI] == 0x001F0300


EXPECTED_SETUP: dict[str, Callable[[BoardModel, boards.Board], None]] = {
    "cmsdk": setup_cmsdk,
    "nrf51": setup_nrf51,
    "stm32l4": setup_stm32l4,
    "stm32f4": setup_stm32f4,
    "rp2040": setup_rp2040,
}


@pytest.mark.tool("qemu-system-arm", "arm-none-eabi-gcc")
@pytest.mark.parametrize(
    "name", [n for n in boards.names() if n.startswith("mps") or n == "microbit"]
)
def test_qemus_serial_ports_print_the_hosts_result(name: str, tmp_path: Path) -> None:
    image = board_image(tmp_path, name, "gcc")
    machine = boards.load(name).emulation.machine
    with subprocess.Popen(
        ["qemu-system-arm", "-M", machine, "-display", "none", "-monitor", "none",
         "-serial", "stdio", "-kernel", str(image)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        text = ""
        assert process.stdout is not None
        for line in process.stdout:
            text += line
            if line.strip() == "done":
                break
        watchdog.cancel()
        process.kill()
    check_text(text)
