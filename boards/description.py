"""What a board and a core are: frozen data, as read from board.toml and cores/*.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Region:
    """A range of addresses: `size` bytes from `start`."""

    start: int
    size: int
    source: str

    @property
    def end(self) -> int:
        """First address behind the region."""
        return self.start + self.size


@dataclass(frozen=True)
class Clock:
    """`hz` is the clock that latencies are given at: the highest the maker allows. `startup_hz`
    is what firmware built by zeroskip sets, the same where its port can."""

    hz: int
    startup_hz: int
    source: str


@dataclass(frozen=True)
class Stack:
    """Bytes reserved for the one stack; overflow is found by its painted pattern."""

    size: int
    source: str


@dataclass(frozen=True)
class Console:
    """The serial port that firmware answers on: a driver of runtime_c/port/console_<driver>.c,
    the base address of its registers, the clock that its baud rate is divided from; the numbers
    of its pins where those are not the driver's."""

    driver: str
    base: int
    clock_hz: int
    baud: int
    source: str
    tx: int | None = None
    rx: int | None = None


@dataclass(frozen=True)
class Emulation:
    """Where the image that is emulated is linked: the memory map of QEMU machine `machine`.

    QEMU 7.2 has no machine for most real boards. Their image is linked to the addresses of a
    machine with the same core (the Cortex-M3 one for M0+, which QEMU lacks; M0+ code is a
    subset), with the sizes of the board, so that the same ELF runs under QEMU and Unicorn.
    """

    machine: str
    flash_start: int
    ram_start: int
    source: str


@dataclass(frozen=True)
class Cache:
    """A cache in front of the flash, or of a core's bus: `size` bytes in lines of `line_bytes`,
    `ways`-associative; replacement is taken as least recently used."""

    size: int
    line_bytes: int
    ways: int


@dataclass(frozen=True)
class FlashTiming:
    """How the flash answers at `clock.hz`.

    A read of the array gives `read_bytes` aligned bytes and takes `wait_states` cycles more than
    one of RAM; with `prefetch` the next `read_bytes` are fetched while instructions execute.
    `instruction_cache` and `data_cache` lie between core and flash, None where there is none;
    `unified` says that the instruction cache holds data as well.
    """

    wait_states: int
    read_bytes: int
    prefetch: bool
    instruction_cache: Cache | None
    data_cache: Cache | None
    unified: bool
    source: str


@dataclass(frozen=True)
class Power:
    """What the microcontroller draws at `volts`: `active_ma` while it computes at `clock.hz`,
    `sleep_ua` in `sleep_mode` between inferences.

    `grade` of the active current: "A" measured on a machine-learning workload, "B" the
    datasheet's current for a benchmark at that clock, "C" a headline figure per MHz. sdk/energy.py
    has the interval that each implies.
    """

    volts: float
    active_ma: float
    grade: str
    source: str
    sleep_ua: float
    sleep_mode: str
    sleep_source: str


@dataclass(frozen=True)
class Trigger:
    """The pin that firmware drives low when a timed run begins and ends, for power analysers:
    bit `bit` of the port whose registers lie at `port` (of nRF: 32 and on are those of P1), `pin`
    as the board's header names it."""

    pin: str
    port: int
    bit: int
    source: str


@dataclass(frozen=True)
class ChipId:
    """A word that tells the chip: `*address & mask == value`."""

    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class Programming:
    """How the board is written. Each is None, or empty, where that way does not exist.

    `pyocd_target` is pyOCD's name, `pyocd_pack` whether that target comes in a CMSIS-Pack only;
    `openocd` the configuration files; `uf2_family` the family of UF2 files and `uf2_label` the
    label of the drive; `stm32_product` the product id that the ROM's serial bootloader (AN3155)
    answers with; `usb` the "vid:pid" pairs of the board's serial port.
    """

    pyocd_target: str | None
    pyocd_pack: bool
    openocd: tuple[str, ...]
    uf2_family: int | None
    uf2_label: str | None
    stm32_product: int | None
    usb: tuple[str, ...]
    chip_id: ChipId | None
    source: str


@dataclass(frozen=True)
class Compiler:
    """Compiler options of a core. `zig_cpu` is written as Zig's -mcpu wants it."""

    gcc_flags: tuple[str, ...]
    zig_target: str
    zig_cpu: str


@dataclass(frozen=True)
class Timing:
    """The additive timing table of a core: cycles per class of instruction with zero wait
    states, as sdk/emulation/cycles.py applies them. Every field is in cycles.

    `divide`, `multiply_long` and `multiply_long_accumulate` depend on the operands on some
    cores; the tables hold one typical value.
    """

    name: str
    known_error: str
    source: str
    alu: int
    multiply: int
    multiply_accumulate: int
    multiply_long: int
    multiply_long_accumulate: int
    divide: int
    load: int
    store: int
    store_register_offset: int
    load_store_double: int
    load_store_multiple_base: int
    load_store_multiple_register: int
    branch_taken: int
    branch_not_taken: int
    call: int
    branch_register: int
    call_register: int
    table_branch: int
    pop_pc_extra: int
    load_pc: int
    write_pc: int
    system: int
    barrier: int
    if_then: int
    float_simple: int
    float_multiply_accumulate: int
    float_divide: int
    float_load_store: int
    # Adjustments when one instruction directly follows another.
    load_store_after_load: int
    load_after_store: int
    address_from_alu: int
    # Adjustments for fetch: a branch to a 32-bit instruction at a halfword address, and every
    # third of a run of such instructions.
    wide_unaligned_target: int
    wide_unaligned_run: int


@dataclass(frozen=True)
class Pipeline:
    """A core that issues in order, one or two instructions at a time, as
    sdk/emulation/scoreboard.py runs it. Times are in cycles.

    `width` instructions can issue at once. `apart` lists pairs of classes that cannot, "*" being
    any, the older one first; with `narrow` only the pairs that it lists can, both of 16 bits
    ("limited dual issue"), where "light" is what adds or subtracts a constant, moves or extends.
    Class "branch" is what leaves a block, and IT. `latency` gives by class
    the cycles from issue to the first in which the result can be used, by the ALU and by what
    needs its operand earlier: addresses, and operands that are shifted or taken apart first. 0: by
    an instruction issued together with it.

    The others are what loads, branches and long instructions take beside: `accumulate` from a
    multiply to the accumulator of the next one, `load_accumulate` from a load to an accumulator,
    `load_store` from a load to the data of a store; `multiple_words` words of a multiple transfer a
    cycle; `branch_taken` the cycles of a branch that is taken as foreseen, `branch_folded` if
    it issues with the instruction before, `mispredicted` the cycles that others take more (0 where
    nothing is predicted), `indirect` those of a branch to a register more than of others,
    `pop_pc` of a multiple load of the program counter. `divide`, `float_divide`, `barrier` and
    `system` are how long those keep others from issuing.
    """

    name: str
    known_error: str
    source: str
    width: int
    narrow: tuple[tuple[str, str], ...]
    latency: Mapping[str, tuple[int, int]]
    apart: tuple[tuple[str, str], ...]
    accumulate: int
    load_accumulate: int
    load_store: int
    multiple_words: int
    branch_taken: int
    branch_folded: int
    mispredicted: int
    indirect: int
    pop_pc: int
    divide: int
    float_divide: int
    float_accumulate_gap: int
    barrier: int
    system: int
    muls_flags: int


PIPELINE_CLASSES: Final = (
    "arithmetic", "logic", "shift", "shifted", "bitfield", "dsp", "multiply", "divide", "load",
    "load_part", "store", "multiple", "float", "float_accumulate", "float_load", "branch", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Core:
    """A processor core. `unicorn_cpu` is None where Unicorn has no such core, `timing` where no
    cycle estimate exists yet."""

    name: str
    unicorn_cpu: str | None
    cycle_counter: str
    compiler: Compiler
    timing: Timing | Pipeline | None


@dataclass(frozen=True)
class Board:
    """A board: its core, clock, memories, console, and how it is emulated, powered and written.

    `flash_timing`, `power`, `trigger` and `programming` are None where they are not known or,
    on an emulated board, mean nothing.
    """

    name: str
    vendor: str
    title: str
    core: Core
    clock: Clock
    flash: Region
    ram: Region
    stack: Stack
    console: Console
    emulation: Emulation
    boot: str
    flash_timing: FlashTiming | None = None
    power: Power | None = None
    trigger: Trigger | None = None
    programming: Programming | None = None
