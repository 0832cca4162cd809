"""Boards and cores as data: one folder per board, one file per core.

`load` reads a `board.toml` into a frozen `Board`. The schema is strict: an unknown key, a
missing key or a value of the wrong type is a `BoardError` that names the file and the key.
Every table that holds a number has a `source` key that says where its numbers come from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, TypeVar

from zeroskip.boards._table import Table
from zeroskip.boards.description import (
    PIPELINE_CLASSES,
    Board,
    Cache,
    ChipId,
    Clock,
    Compiler,
    Console,
    Core,
    Emulation,
    FlashTiming,
    Pipeline,
    Power,
    Programming,
    Region,
    Stack,
    Timing,
    Trigger,
)
from zeroskip.errors import BoardError

SCHEMA: Final = 1
DRIVERS: Final = (
    "cmsdk", "lpc55", "nrf51", "nrf53", "rp2040", "rp2350", "stm32f4", "stm32f7", "stm32h7",
    "stm32l4", "stm32u5",
)  # fmt: skip
"""Families whose firmware port there is: runtime_c/port/console_<driver>.c."""

T = TypeVar("T")

__all__ = [
    "SCHEMA", "Board", "Cache", "ChipId", "Clock", "Compiler", "Console", "Core", "Emulation",
    "FlashTiming", "Pipeline", "Power", "Programming", "Region", "Stack", "Timing", "Trigger",
    "core_names", "load", "load_core", "names", "parse", "parse_core",
]  # fmt: skip


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
            driver=console.choice("driver", DRIVERS),
            base=console.integer("base", 0, 0xFFFFFFFF),
            clock_hz=console.integer("clock_hz", 1_000, 10**10),
            baud=console.integer("baud", 300, 10**7),
            tx=console.integer("tx", 0, 63) if console.has("tx") else None,
            rx=console.integer("rx", 0, 63) if console.has("rx") else None,
            source=console.text("source"),
        ),
        emulation=Emulation(
            machine=emulation.text("machine"),
            flash_start=emulation.integer("flash_start", 0, 0xFFFFFFFF),
            ram_start=emulation.integer("ram_start", 0, 0xFFFFFFFF),
            source=emulation.text("source"),
        ),
        boot=top.choice("boot", ("vectors", "rp2040-boot2")),
        flash_timing=_optional(top, "flash_timing", _flash_timing),
        power=_optional(top, "power", _power),
        trigger=_optional(top, "trigger", _trigger),
        programming=_optional(top, "programming", _programming),
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
    pipeline = top.optional_table("pipeline")
    unicorn_cpu = top.text("unicorn_cpu")
    core = Core(
        name=top.text("name"),
        unicorn_cpu=None if unicorn_cpu == "none" else unicorn_cpu,
        cycle_counter=top.choice("cycle_counter", ("dwt", "systick")),
        compiler=Compiler(
            gcc_flags=compiler.texts("gcc_flags"),
            zig_target=compiler.text("zig_target"),
            zig_cpu=compiler.text("zig_cpu"),
        ),
        timing=_pipeline(pipeline) if pipeline else _timing(timing) if timing else None,
    )
    if timing and pipeline:
        raise top.error("pipeline", "a core has a table of timing or a pipeline, not both")
    compiler.finish()
    top.finish()
    return core


def _optional(top: Table, key: str, read: Callable[[Table], T]) -> T | None:
    table = top.optional_table(key)
    if table is None:
        return None
    found = read(table)
    table.finish()
    return found


def _flash_timing(table: Table) -> FlashTiming:
    return FlashTiming(
        wait_states=table.integer("wait_states", 0, 255),
        read_bytes=table.integer("read_bytes", 1, 256),
        prefetch=table.boolean("prefetch"),
        instruction_cache=_optional(table, "instruction_cache", _cache),
        data_cache=_optional(table, "data_cache", _cache),
        unified=table.boolean("unified") if table.has("unified") else False,
        source=table.text("source"),
    )


def _cache(table: Table) -> Cache:
    cache = Cache(
        size=table.integer("size", 8, 1 << 24),
        line_bytes=table.integer("line_bytes", 4, 1 << 10),
        ways=table.integer("ways", 1, 1 << 10),
    )
    if cache.size % (cache.line_bytes * cache.ways):
        raise table.error("size", f"{cache.size} is no multiple of line_bytes x ways")
    return cache


def _power(table: Table) -> Power:
    return Power(
        volts=table.number("volts", 0.5, 6.0),
        active_ma=table.number("active_ma", 1e-3, 1e4),
        grade=table.choice("grade", ("A", "B", "C")),
        source=table.text("source"),
        sleep_ua=table.number("sleep_ua", 0.0, 1e6),
        sleep_mode=table.text("sleep_mode"),
        sleep_source=table.text("sleep_source"),
    )


def _trigger(table: Table) -> Trigger:
    return Trigger(
        pin=table.text("pin"),
        port=table.integer("port", 0, 0xFFFFFFFF),
        bit=table.integer("bit", 0, 63),
        source=table.text("source"),
    )


def _programming(table: Table) -> Programming:
    def number(key: str) -> int | None:
        return table.integer(key, 0, 0xFFFFFFFF) if table.has(key) else None

    return Programming(
        pyocd_target=table.text("pyocd_target") if table.has("pyocd_target") else None,
        pyocd_pack=table.boolean("pyocd_pack") if table.has("pyocd_pack") else False,
        openocd=table.texts("openocd") if table.has("openocd") else (),
        uf2_family=number("uf2_family"),
        uf2_label=table.text("uf2_label") if table.has("uf2_label") else None,
        stm32_product=number("stm32_product"),
        usb=table.texts("usb") if table.has("usb") else (),
        chip_id=_optional(table, "chip_id", _chip_id),
        source=table.text("source"),
    )


def _chip_id(table: Table) -> ChipId:
    names = ("address", "mask", "value")
    return ChipId(*(table.integer(name, 0, 0xFFFFFFFF) for name in names))


def _timing(table: Table) -> Timing:
    fields = list(Timing.__dataclass_fields__)
    texts = {key: table.text(key) for key in ("name", "known_error", "source")}
    cycles = {key: table.integer(key, -8, 64) for key in fields if key not in texts}
    table.finish()
    return Timing(**texts, **cycles)  # type: ignore[arg-type]


def _pipeline(table: Table) -> Pipeline:
    latencies = table.table("latency")
    latency = {}
    for name in PIPELINE_CLASSES:
        if latencies.has(name):
            late, early = latencies.integers(name, 2, 0, 64)
            latency[name] = late, early
    latencies.finish()
    given: dict[str, Any] = {"latency": latency}
    given |= {key: _pairs(table, key) for key in ("apart", "narrow")}
    given |= {key: table.text(key) for key in ("name", "known_error", "source")}
    numbers = [key for key in Pipeline.__dataclass_fields__ if key not in given]
    cycles = {key: table.integer(key, 0, 64) for key in numbers}
    table.finish()
    return Pipeline(**{**given, **cycles})


def _pairs(table: Table, key: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in table.texts(key):
        older, _, younger = text.partition(" ")
        if not {older, younger} <= {"*", "light", *PIPELINE_CLASSES}:
            raise table.error(key, f"'{text}' is not two classes")
        pairs.append((older, younger))
    return tuple(pairs)


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
