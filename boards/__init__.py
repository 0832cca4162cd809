"""Boards and cores as data: one folder per board, one file per core.

`load` reads a `board.toml` into a frozen `Board`. The schema is strict: an unknown key, a
missing key or a value of the wrong type is a `BoardError` that names the file and the key.
Every table that holds a number has a `source` key that says where its numbers come from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from zeroskip.boards._table import Table
from zeroskip.errors import BoardError

SCHEMA: Final = 1


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
    is what firmware built by zeroskip runs at: it leaves the clocks as they are after reset,
    but for the RP2040, which it takes to its crystal."""

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
    """The serial port that firmware prints to: a driver of runtime_c/port/console_<driver>.c,
    the base address of its registers, the clock that its baud rate is divided from."""

    driver: str
    base: int
    clock_hz: int
    baud: int
    source: str


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
class Core:
    """A processor core. `timing` is None where no cycle estimate exists yet."""

    name: str
    unicorn_cpu: str
    cycle_counter: str
    compiler: Compiler
    timing: Timing | None


@dataclass(frozen=True)
class Board:
    """A board: its core, clock, memories, console, and how it is emulated."""

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


def names() -> list[str]:
    """The boards that come with zeroskip, sorted."""
    root = resources.files(__name__)
    return sorted(d.name for d in root.iterdir() if d.joinpath("board.toml").is_file())


def load(name_or_path: str | Path) -> Board:
    """The board of that name, or the one described in a folder that holds a board.toml.

    Raises BoardError: no such board, or a description that breaks the schema.
    """
    name = str(name_or_path)
    if name in names():
        return parse(_read(resources.files(__name__).joinpath(name, "board.toml")), name)
    path = Path(name_or_path)
    if (path / "board.toml").is_file():
        return parse(_read(path / "board.toml"), str(path / "board.toml"))
    raise BoardError(f"no board '{name}': pass a folder with a board.toml, or {', '.join(names())}")


def load_core(name: str) -> Core:
    """The core of that name, such as "cortex-m4". Raises BoardError."""
    entry = resources.files(__name__).joinpath("cores", f"{name}.toml")
    if "/" in name or "\\" in name or not entry.is_file():
        raise BoardError(f"no core '{name}': cores are {', '.join(core_names())}")
    return parse_core(_read(entry), f"cores/{name}.toml")


def core_names() -> list[str]:
    """The cores that boards may name, sorted."""
    folder = resources.files(__name__).joinpath("cores")
    return sorted(e.name[:-5] for e in folder.iterdir() if e.name.endswith(".toml"))


def parse(document: Mapping[str, Any], where: str) -> Board:
    """A parsed board.toml as a `Board`; `where` names it in messages. Raises BoardError."""
    top = Table(document, where)
    schema = top.integer("schema", 1, 1 << 16)
    if schema != SCHEMA:
        raise top.error("schema", f"{schema} is not {SCHEMA}, the only version known here")
    memory = top.table("memory")
    clock = top.table("clock")
    stack = top.table("stack")
    console = top.table("console")
    emulation = top.table("emulation")
    board = Board(
        name=top.text("name"),
        vendor=top.text("vendor"),
        title=top.text("title"),
        core=load_core(top.text("core")),
        clock=Clock(
            hz=clock.integer("hz", 1_000, 10**10),
            startup_hz=clock.integer("startup_hz", 1_000, 10**10),
            source=clock.text("source"),
        ),
        flash=_region(memory.table("flash")),
        ram=_region(memory.table("ram")),
        stack=Stack(size=stack.integer("size", 256, 1 << 24), source=stack.text("source")),
        console=Console(
            driver=console.choice("driver", ("cmsdk", "nrf51", "stm32l4", "stm32f4", "rp2040")),
            base=console.integer("base", 0, 0xFFFFFFFF),
            clock_hz=console.integer("clock_hz", 1_000, 10**10),
            baud=console.integer("baud", 300, 10**7),
            source=console.text("source"),
        ),
        emulation=Emulation(
            machine=emulation.text("machine"),
            flash_start=emulation.integer("flash_start", 0, 0xFFFFFFFF),
            ram_start=emulation.integer("ram_start", 0, 0xFFFFFFFF),
            source=emulation.text("source"),
        ),
        boot=top.choice("boot", ("vectors", "rp2040-boot2")),
    )
    for table in (top, memory, clock, stack, console, emulation):
        table.finish()
    if board.stack.size % 8 != 0 or board.stack.size >= board.ram.size:
        raise stack.error(
            "size", f"{board.stack.size} must be a multiple of 8 below the RAM's {board.ram.size}"
        )
    return board


def parse_core(document: Mapping[str, Any], where: str) -> Core:
    """A parsed cores/<core>.toml as a `Core`. Raises BoardError."""
    top = Table(document, where)
    compiler = top.table("compiler")
    timing = top.optional_table("timing")
    core = Core(
        name=top.text("name"),
        unicorn_cpu=top.text("unicorn_cpu"),
        cycle_counter=top.choice("cycle_counter", ("dwt", "systick")),
        compiler=Compiler(
            gcc_flags=compiler.texts("gcc_flags"),
            zig_target=compiler.text("zig_target"),
            zig_cpu=compiler.text("zig_cpu"),
        ),
        timing=None if timing is None else _timing(timing),
    )
    compiler.finish()
    top.finish()
    return core


def _timing(table: Table) -> Timing:
    fields = list(Timing.__dataclass_fields__)
    texts = {key: table.text(key) for key in ("name", "known_error", "source")}
    cycles = {key: table.integer(key, -8, 64) for key in fields if key not in texts}
    table.finish()
    return Timing(**texts, **cycles)  # type: ignore[arg-type]


def _region(table: Table) -> Region:
    region = Region(
        start=table.integer("start", 0, 0xFFFFFFFF),
        size=table.integer("size", 1024, 1 << 28),
        source=table.text("source"),
    )
    table.finish()
    if region.end > 1 << 32:
        raise table.error("size", "the region ends above the 32-bit address space")
    return region


def _read(entry: Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(entry.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BoardError(f"{entry}: {error}") from error
