"""The images that `zeroskip build` makes for boards, run as they are: their own memory map,
start-up, clock and serial port registers, down to what they say.

Unicorn runs all whose core it has with a few lines of model for each family's serial port; QEMU,
whose serial ports are not ours, runs those of the boards it has.
"""

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_models import small_model

from zeroskip import boards, elf, firmware
from zeroskip.runtime import Model

NO_REGISTER = 0x0FFFFFFF
PERIPHERALS = 0x40000000
SINGLE_CYCLE_IO = 0xD0000000
PERIPHERALS_SIZE = 0x20000000
SYSTEM = 0xE0000000
RP2040_SSI = 0x18000000
RP2040_BOOT_PLACE = 0x20041F00

# Register offsets from the console's base: where characters go and come from, and of the status
# register the value when idle, and the bit that tells a character waiting (or none, below 0).
UARTS: dict[str, tuple[int, int, dict[int, int], int, int]] = {
    "cmsdk": (0x00, 0x00, {0x04: 0}, 0x04, 2),
    "nrf51": (0x51C, 0x518, {0x11C: 1}, 0x108, 1),
    "stm32l4": (0x28, 0x24, {0x1C: 0x80}, 0x1C, 0x20),
    "stm32f4": (0x04, 0x04, {0x00: 0x80}, 0x00, 0x20),
    "rp2040": (0x00, 0x00, {0x18: 0}, 0x18, -0x10),
    "rp2350": (0x00, 0x00, {0x18: 0}, 0x18, -0x10),
    "stm32f7": (0x28, 0x24, {0x1C: 0x80}, 0x1C, 0x20),
    "stm32h7": (0x28, 0x24, {0x1C: 0x80}, 0x1C, 0x20),
    "stm32u5": (0x28, 0x24, {0x1C: 0x80}, 0x1C, 0x20),
    "lpc55": (0xE20, 0xE30, {0xE04: 0x20}, 0xE04, 0x40),
    "nrf53": (NO_REGISTER, NO_REGISTER, {0x120: 1}, 0x110, 1),  # by DMA
}
# What else answers with more than what was written to it: ready bits, by address.
READY = {
    0x40024004: 1 << 31, 0x40008038: 4, 0x4000C008: 0xFFFFFFFF, 0x40028000: 1 << 31,
    0x40008044: 2,  # RP2040: crystal, clocks, resets, PLL
    0x40048004: 1 << 31, 0x40010038: 4, 0x40020008: 0xFFFFFFFF, 0x40050000: 1 << 31,
    0x40010044: 2,  # RP2350
    0x40023800: 1 << 25, 0x40007004: 3 << 16,  # STM32F4, F7: PLL, over-drive
    0x40021000: 1 << 25 | 1 << 10,  # STM32L4: PLL, HSI16
    0x58024400: 1 << 25, 0x58024804: 1 << 13, 0x58024818: 1 << 13,  # STM32H7: PLL, voltage
    0x46020C00: 1 << 25, 0x4602080C: 3 << 14,  # STM32U5: PLL, voltage and booster
}  # fmt: skip
# Clock switches, whose status follows: address, shift from the choice to the status, mask, and the
# flash's register of wait states.
SWITCHES = {
    "stm32f4": (0x40023808, 2, 3, 0x40023C00), "stm32f7": (0x40023808, 2, 3, 0x40023C00),
    "stm32l4": (0x40021008, 2, 3, 0x40022000), "stm32h7": (0x58024410, 3, 7, 0x52002000),
    "stm32u5": (0x46020C1C, 2, 3, 0x40022000),
}  # fmt: skip


class BoardModel:
    """A board in Unicorn: memories, a serial port with `typed` waiting, and registers that keep
    what is written. It stops when the firmware waits for more."""

    def __init__(self, image: elf.Elf, board: boards.Board, typed: str) -> None:
        unicorn = pytest.importorskip("unicorn")
        from unicorn import arm_const

        self.text = ""
        self.polls = 0
        self.registers: dict[int, int] = {}
        base = board.console.base
        data, received, answers, status, self.waiting_bit = UARTS[board.console.driver]
        self.data_register, self.receive_register = base + data, base + received
        self.status_register = base + status
        self.typed = typed.encode()
        self.answers = {base + offset: value for offset, value in answers.items()}
        self.driver = board.console.driver
        self.order: list[int] = []  # addresses written, in order
        self.uc = uc = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        assert board.core.unicorn_cpu is not None
        cpu = board.core.unicorn_cpu.replace("-", "_").upper()
        uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{cpu}"))
        uc.mem_map(board.flash.start, board.flash.size)
        uc.mem_map(board.ram.start, board.ram.size)
        uc.mem_map(SYSTEM, 0x100000)
        if "rp2" in self.driver:
            uc.mem_map(SINGLE_CYCLE_IO, 0x1000)
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
        if address == self.receive_register and self.typed:
            typed, self.typed = self.typed[0], self.typed[1:]
            self.polls = 0
            return typed
        value = self.answers.get(address, self.registers.get(address, 0)) | READY.get(address, 0)
        switch = SWITCHES.get(self.driver)
        if switch is not None and address == switch[0]:
            value |= (value & switch[2]) << switch[1]
        if address == self.status_register:
            if bool(self.typed) == (self.waiting_bit > 0):
                value |= abs(self.waiting_bit)
            self.polls += 1
            if not self.typed and self.polls > 3:
                uc.emu_stop()
            if self.typed and self.driver == "nrf53":
                place = self.registers[address - 0x110 + 0x534]
                uc.mem_write(place, self.typed[:1])
                self.typed = self.typed[1:]
        return value

    def _write(self, uc: Any, offset: int, size: int, value: int, user: Any) -> None:
        address = PERIPHERALS + offset
        self.registers[address] = value
        self.order.append(address)
        self.polls = 0
        if self.driver == "nrf53" and address == self.status_register - 0x110 + 0x008:
            place = self.registers[address - 0x008 + 0x544]
            self.text += chr(uc.mem_read(place, 1)[0])
        if address == self.data_register:
            self.text += chr(value)

    def _read_ssi(self, uc: Any, offset: int, size: int, user: Any) -> int:
        return self.registers.get(RP2040_SSI + offset, 0)

    def _write_ssi(self, uc: Any, offset: int, size: int, value: int, user: Any) -> None:
        self.registers[RP2040_SSI + offset] = value


def board_image(tmp_path: Path, name: str, compiler: firmware.Compiler) -> Path:
    return firmware.build(
        small_model(0)[0], boards.load(name), output=tmp_path / "f.elf", compiler=compiler
    ).path


def session() -> str:
    """A whole conversation: the first sample of the small model is loaded and run."""
    data = small_model(0)[1][0].tobytes()
    lines = [data[at : at + 31].hex() for at in range(0, len(data), 31)]
    commands = ["name", f"db load {len(data)}", *(f"db {line}" for line in lines), "infer 1 0",
                "zs-output", "zs-info"]  # fmt: skip
    return "".join(f"{command}%" for command in commands)


def check_text(text: str, board: str) -> None:
    """The answers to `session`, with the outputs of the host."""
    blob, inputs, _ = small_model(0)
    expected = np.asarray(Model(blob).run(inputs[:1])).tobytes()
    lines = text.replace("\r\n", "\n").splitlines()
    assert lines[:3] == ["m-timestamp-mode-performance", "m-init-done", "m-ready"]
    assert "m-name-dut-[zeroskip]" in lines and "m-load-done" in lines and "m-infer-done" in lines
    assert f"m-zs-board-[{board}]" in lines and not [x for x in lines if x.startswith("e-")]
    shown = [x[len("m-zs-output-[") : -1].split(",") for x in lines if x.startswith("m-zs-out")]
    assert b"".join(bytes.fromhex(part[2]) for part in shown) == expected


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
    model = BoardModel(image, board, session())
    check_text(model.run(), name)
    EXPECTED_SETUP[board.console.driver](model, board)


def setup_cmsdk(m: BoardModel, board: boards.Board) -> None:
    assert m.registers[board.console.base + 0x10] == board.console.clock_hz // 115200
    assert m.registers[board.console.base + 0x08] == 3  # both ways


def setup_nrf(m: BoardModel, board: boards.Board) -> None:
    # The value that the Reference Manual gives for 115,200 baud.
    assert m.registers[board.console.base + 0x524] == 0x01D7E000
    assert m.registers[board.console.base + 0x50C] == board.console.tx
    assert m.registers[board.console.base + 0x514] == board.console.rx


def setup_stm32(m: BoardModel, board: boards.Board) -> None:
    """Wait states before the clock; the divider of the baud rate; the multiplied clock."""
    switch, _, mask, flash = SWITCHES[board.console.driver]
    assert m.order.index(flash) < len(m.order) - 1 - m.order[::-1].index(switch)
    assert m.registers[switch] & mask == (
        2 if board.console.driver in ("stm32f4", "stm32f7") else 3
    )
    assert board.flash_timing is not None
    bus_states = m.registers[flash] & 15
    core_per_bus = 2 if board.name == "nucleo-h743zi" else 1
    assert bus_states * core_per_bus == board.flash_timing.wait_states
    offset = 0x08 if board.console.driver == "stm32f4" else 0x0C
    clocks = board.console.clock_hz * (256 if board.console.base == 0x40008000 else 1)
    assert m.registers[board.console.base + offset] == round(clocks / 115200)
    assert PLLS[board.console.driver](m) == board.clock.hz == board.clock.startup_hz


def pll_f(m: BoardModel) -> float:
    pll = m.registers[0x40023804]
    return 16e6 / (pll & 63) * (pll >> 6 & 511) / (2 * (pll >> 16 & 3) + 2)


def pll_l4(m: BoardModel) -> float:
    pll = m.registers[0x4002100C]
    assert pll & 3 == 2 and m.registers[0x40021008] >> 4 & 15 == 0  # HSI16; the bus undivided
    return 16e6 / ((pll >> 4 & 15) + 1) * (pll >> 8 & 127) / (2 * (pll >> 25 & 3) + 2)


def pll_h7(m: BoardModel) -> float:
    divide, pll = m.registers[0x58024428] >> 4 & 63, m.registers[0x58024430]
    return 64e6 / divide * ((pll & 511) + 1) / ((pll >> 9 & 127) + 1)


def pll_u5(m: BoardModel) -> float:
    pll = m.registers[0x46020C34]
    return 4e6 * ((pll & 511) + 1) / ((pll >> 24 & 127) + 1)


PLLS: dict[str, Callable[[BoardModel], float]] = {
    "stm32f4": pll_f, "stm32f7": pll_f, "stm32l4": pll_l4, "stm32h7": pll_h7, "stm32u5": pll_u5,
}  # fmt: skip


def setup_rp2(m: BoardModel, board: boards.Board) -> None:
    whole, fraction = (m.registers[board.console.base + at] for at in (0x24, 0x28))
    assert whole + fraction / 64 == pytest.approx(12_000_000 / (16 * 115200), rel=0.003)
    pll = 0x40050000 if board.console.driver == "rp2350" else 0x40028000
    post = m.registers[pll + 0x0C]
    clock = 12e6 * m.registers[pll + 0x08] / ((post >> 16 & 7) * (post >> 12 & 7))
    assert clock == board.clock.hz == board.clock.startup_hz
    if board.console.driver == "rp2040":
        assert m.registers[RP2040_SSI + 0x08] == 1  # enabled
        assert m.registers[RP2040_SSI + 0xF4] == 0x03000218  # command 03h, 8 + 24 bits, XIP
        assert m.registers[RP2040_SSI] == 0x001F0300


def setup_lpc55(m: BoardModel, board: boards.Board) -> None:
    oversampling, divider = (m.registers[board.console.base + at] for at in (0x28, 0x20))
    rate = board.console.clock_hz / ((oversampling + 1) * (divider + 1))
    assert rate == pytest.approx(115200, rel=0.02)


EXPECTED_SETUP: dict[str, Callable[[BoardModel, boards.Board], None]] = {
    "cmsdk": setup_cmsdk, "nrf51": setup_nrf, "nrf53": setup_nrf, "rp2040": setup_rp2,
    "rp2350": setup_rp2, "lpc55": setup_lpc55, **dict.fromkeys(PLLS, setup_stm32),
}  # fmt: skip


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
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        text = ""
        assert process.stdin is not None and process.stdout is not None
        for command in ["", *session().split("%")[:-1]]:
            if command:
                process.stdin.write(f"{command}%".encode())
                process.stdin.flush()
            for line in process.stdout:
                text += line.decode()
                if line.strip() == b"m-ready":
                    break
        watchdog.cancel()
        process.kill()
    check_text(text, name)
