"""An nRF51822 behind a debug probe, for pyOCD: debug port, access port, debug registers and flash
controller in Python, the processor in Unicorn, so that pyOCD's own flash algorithm runs.

Registers: Arm Debug Interface v5 (IHI 0031), ARMv6-M Architecture Reference Manual (DDI 0419,
C1 debug), nRF51 Series Reference Manual (chapter 6 NVMC, chapter 7 FICR).
"""

from typing import Any

import unicorn
from pyocd.core.memory_interface import MemoryInterface
from pyocd.probe.debug_probe import DebugProbe
from unicorn import arm_const

FLASH_BYTES, RAM, RAM_BYTES, PAGE = 0x40000, 0x20000000, 0x4000, 0x400
FICR, NVMC, ROM_TABLE = 0x10000000, 0x4001E000, 0xE00FF000
HARDWARE_ID = 0x1000005C
AIRCR, DFSR, DHCSR, DCRSR, DCRDR, DEMCR = (
    0xE000ED0C, 0xE000ED30, 0xE000EDF0, 0xE000EDF4, 0xE000EDF8, 0xE000EDFC,
)  # fmt: skip
REGISTERS = [
    getattr(arm_const, f"UC_ARM_REG_{name}")
    for name in ("R0 R1 R2 R3 R4 R5 R6 R7 R8 R9 R10 R11 R12 SP LR PC").split()
]


def _component(base: int, part: int, component_class: int) -> dict[int, int]:
    """The identification registers of a CoreSight component of Arm (designer 0x43B)."""
    pidr = [part & 0xFF, 0xB0 | part >> 8, 0x0B, 0]
    cidr = [0x0D, component_class << 4, 0x05, 0xB1]
    words = {base + 0xFD0: 4}
    words |= {base + 0xFE0 + 4 * i: value for i, value in enumerate(pidr)}
    return words | {base + 0xFF0 + 4 * i: value for i, value in enumerate(cidr)}


class Chip(MemoryInterface):  # type: ignore[misc]
    """The chip as its access port sees it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.uc = uc = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M0)
        uc.mem_map(0, FLASH_BYTES)
        uc.mem_map(RAM, RAM_BYTES)
        uc.mem_map(FICR, 0x2000)  # with UICR
        uc.mem_map(0x40000000, NVMC - 0x40000000)
        uc.mmio_map(NVMC, 0x1000, self._nvmc_read, None, self._nvmc_write, None)
        uc.mem_write(0, b"\xff" * FLASH_BYTES)
        uc.mem_write(FICR, b"\xff" * 0x2000)
        for address, value in ((FICR + 0x10, PAGE), (FICR + 0x14, FLASH_BYTES // PAGE),
                               (HARDWARE_ID, 0xFFFF007D)):  # fmt: skip
            uc.mem_write(address, value.to_bytes(4, "little"))
        uc.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._flash_written, None, 0, FLASH_BYTES - 1)
        self._config = 0
        self.halted = False
        self._reset_seen = True
        self._registers = dict.fromkeys(range(32), 0)
        self._system = {0xE000ED00: 0x410CC200, DEMCR: 0, DHCSR: 0, DFSR: 0}
        for base, part in ((0xE000E000, 0x008), (0xE0001000, 0x00A), (0xE0002000, 0x00B)):
            self._system |= _component(base, part, 0xE)
        self._system |= _component(ROM_TABLE, 0x471, 0x1)
        self._system |= {
            ROM_TABLE: 0xFFF0F003,
            ROM_TABLE + 4: 0xFFF02003,
            ROM_TABLE + 8: 0xFFF03003,
        }
        self._reset()

    @property
    def flash(self) -> bytes:
        return bytes(self.uc.mem_read(0, FLASH_BYTES))

    # What the probe does.

    def read_memory(self, addr: int, transfer_size: int = 32, now: bool = True, **_: int) -> Any:
        if addr >= 0xE0000000:
            word = self._system_read(addr & ~3)
            value = word >> 8 * (addr & 3) & ((1 << transfer_size) - 1)
        elif NVMC <= addr < NVMC + 0x1000:
            value = self._nvmc_read(self.uc, addr - NVMC, 4, None)
        else:
            value = int.from_bytes(self.uc.mem_read(addr, transfer_size // 8), "little")
        return value if now else lambda: value

    def write_memory(self, addr: int, data: int, transfer_size: int = 32, **_: int) -> None:
        if addr >= 0xE0000000:
            self._system_write(addr, data)
        elif NVMC <= addr < NVMC + 0x1000:
            self._nvmc_write(self.uc, addr - NVMC, 4, data, None)
        else:
            assert addr >= FLASH_BYTES, "flash is written by the flash algorithm"
            self.uc.mem_write(addr, data.to_bytes(transfer_size // 8, "little"))

    def read_memory_block32(self, addr: int, size: int, **_: int) -> list[int]:
        return [self.read_memory(addr + 4 * i) for i in range(size)]

    def write_memory_block32(self, addr: int, data: Any, **_: int) -> None:
        for i, word in enumerate(data):
            self.write_memory(addr + 4 * i, word)

    def read_memory_block8(self, addr: int, size: int, **_: int) -> list[int]:
        return list(self.uc.mem_read(addr, size))

    def write_memory_block8(self, addr: int, data: Any, **_: int) -> None:
        for i, byte in enumerate(data):
            self.write_memory(addr + i, byte, 8)

    # Debug registers.

    def _system_read(self, address: int) -> int:
        if address == DHCSR:
            value = self._system[DHCSR] & 0xFFFF | 1 << 16 | self.halted << 17
            value |= self._reset_seen << 25
            self._reset_seen = False
            return value
        return self._system.get(address, 0)

    def _system_write(self, address: int, value: int) -> None:
        if address == DHCSR:
            assert value >> 16 == 0xA05F
            self._system[DHCSR] = value & 0xF
            if value & 2:
                self.halted = True
            elif self.halted:
                self._run()
        elif address == DCRSR:
            number = value & 0x1F
            if value >> 16 & 1:
                self._registers[number] = self._system[DCRDR]
            else:
                self._system[DCRDR] = self._registers[number]
        elif address == AIRCR:
            if value & 0xFFFF0004 == 0x05FA0004:
                self._reset()
        elif address == DFSR:
            self._system[DFSR] &= ~value
        else:
            self._system[address] = value

    def _reset(self) -> None:
        self._registers[13], start = (
            int.from_bytes(self.uc.mem_read(a, 4), "little") for a in (0, 4)
        )
        self._registers[15], self._registers[16] = start & ~1, 1 << 24
        self._reset_seen = True
        self.halted = bool(self._system[DEMCR] & 1)
        self.log.append("reset and halt" if self.halted else "reset and run")

    def _run(self) -> None:
        """Run to a breakpoint what is in RAM; what is in flash just runs."""
        self.halted = False
        pc, back = self._registers[15] & ~1, self._registers[14] & ~1
        if not RAM <= pc < RAM + RAM_BYTES:
            return
        for number, register in enumerate(REGISTERS):
            self.uc.reg_write(register, self._registers[number])
        self.uc.emu_start(pc | 1, back, timeout=10_000_000)
        for number, register in enumerate(REGISTERS):
            self._registers[number] = self.uc.reg_read(register)
        assert self._registers[15] & ~1 == back, "the flash algorithm did not end"
        assert int.from_bytes(self.uc.mem_read(back, 2), "little") == 0xBE00, "no BKPT"
        self.halted = True
        self._system[DFSR] |= 2

    # The flash controller.

    def _nvmc_read(self, uc: Any, offset: int, size: int, user: Any) -> int:
        return {0x400: 1, 0x504: self._config}.get(offset, 0)

    def _nvmc_write(self, uc: Any, offset: int, size: int, value: int, user: Any) -> None:
        if offset == 0x504:
            self._config = value
        elif offset in (0x508, 0x50C) and self._config == 2:
            start, count = (value, PAGE) if offset == 0x508 else (0, FLASH_BYTES)
            self.uc.mem_write(start, b"\xff" * count)
            self.log.append(f"erase {start:#x}" if offset == 0x508 else "erase all")

    def _flash_written(
        self, uc: Any, access: int, address: int, size: int, value: int, user: Any
    ) -> None:
        assert self._config == 1 and size == 4
        assert bytes(uc.mem_read(address, 4)) == b"\xff\xff\xff\xff", "written before it was erased"
        if not self.log[-1].startswith("write"):
            self.log.append(f"write {address:#x}")


class Probe(DebugProbe):  # type: ignore[misc]
    """A debug probe with a chip at its other end."""

    def __init__(self, chip: Chip, unique_id: str) -> None:
        super().__init__()
        self.chip, self._id = chip, unique_id
        self._open = False
        self._select = self._control = 0

    description = vendor_name = product_name = property(lambda self: "simulated")
    unique_id = property(lambda self: self._id)
    is_open = property(lambda self: self._open)
    supported_wire_protocols = property(
        lambda self: [DebugProbe.Protocol.DEFAULT, DebugProbe.Protocol.SWD]
    )
    wire_protocol = property(lambda self: DebugProbe.Protocol.SWD)
    capabilities = property(lambda self: set())

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False

    def connect(self, protocol: Any = None) -> None: ...

    def disconnect(self) -> None: ...

    def set_clock(self, frequency: float) -> None: ...

    def assert_reset(self, asserted: bool) -> None: ...

    def is_reset_asserted(self) -> bool:
        return False

    def flush(self) -> None: ...

    def read_dp(self, addr: int, now: bool = True) -> Any:
        if addr == 0:
            value = 0x0BB11477
        else:
            value = self._control | (self._control & 0x50000000) << 1 if addr == 4 else 0
        return value if now else lambda: value

    def write_dp(self, addr: int, data: int) -> None:
        if addr == 4:
            self._control = data
        elif addr == 8:
            self._select = data

    def read_ap(self, addr: int, now: bool = True) -> Any:
        first = self._select >> 24 == 0
        registers = {0xFC: 0x04770021, 0xF8: ROM_TABLE | 3, 0x00: 0x43000042}
        value = registers.get(addr & 0xFF, 0) if first else 0
        return value if now else lambda: value

    def write_ap(self, addr: int, data: int) -> None: ...

    def get_memory_interface_for_ap(self, ap_address: Any) -> Any:
        return self.chip
