"""Board and core descriptions: complete, sourced, and read strictly."""

import copy
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip import boards
from zeroskip.errors import BoardError

ROOT = resources.files("zeroskip.boards")
CORE_OF = {
    "microbit": "cortex-m0",
    "microbit-v2": "cortex-m4",
    "arduino-nano-33-ble": "cortex-m4",
    "b-l475e-iot01a": "cortex-m4",
    "b-u585i-iot02a": "cortex-m33",
    "lpc55s69-evk": "cortex-m33",
    "nrf52840-dk": "cortex-m4",
    "nrf5340-dk": "cortex-m33",
    "nucleo-h743zi": "cortex-m7",
    "nucleo-h7a3zi-q": "cortex-m7",
    "raspberry-pi-pico2": "cortex-m33",
    "stm32f4-discovery": "cortex-m4",
    "stm32f746g-disco": "cortex-m7",
    "mps2-an385": "cortex-m3",
    "mps2-an386": "cortex-m4",
    "mps2-an500": "cortex-m7",
    "mps2-an505": "cortex-m33",
    "mps3-an547": "cortex-m55",
    "nucleo-f446re": "cortex-m4",
    "nucleo-l4r5zi": "cortex-m4",
    "raspberry-pi-pico": "cortex-m0plus",
}


def board_document(name: str = "nucleo-l4r5zi") -> dict[str, Any]:
    return tomllib.loads(ROOT.joinpath(name, "board.toml").read_text())


def core_document(name: str = "cortex-m4") -> dict[str, Any]:
    return tomllib.loads(ROOT.joinpath("cores", f"{name}.toml").read_text())


def paths(document: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a document, tables included."""
    for key, value in document.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, key))


def table_of(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path[:-1]:
        document = document[key]
    return document


BOARD_KEYS = list(paths(board_document()))
CORE_KEYS = list(paths(core_document()))


def test_the_boards_are_these() -> None:
    assert {name: boards.load(name).core.name for name in boards.names()} == CORE_OF


def test_names_are_those_of_the_folders() -> None:
    for name in boards.names():
        assert boards.load(name).name == name
    for name in boards.core_names():
        assert boards.load_core(name).name == name


@pytest.mark.parametrize("name", sorted(CORE_OF))
def test_every_number_of_a_board_has_a_source(name: str) -> None:
    document = board_document(name)
    del document["schema"]  # a version, not a fact
    numbers = [p for p in paths(document) if isinstance(table_of(document, p)[p[-1]], int | float)]
    assert len(numbers) >= 12
    for path in numbers:
        tables = [table_of(document, path[:depth]) for depth in range(2, len(path) + 1)]
        assert any(table.get("source", "").strip() for table in tables), path


def test_every_timing_table_has_a_source_and_a_known_error() -> None:
    timed = [c for n in boards.core_names() if (c := boards.load_core(n)).timing is not None]
    assert {c.name for c in timed} == set(boards.core_names())
    for core in timed:
        assert core.timing is not None
        assert len(core.timing.source) > 40 and core.timing.known_error


OPTIONAL = {
    ("flash_timing",), ("flash_timing", "instruction_cache"), ("flash_timing", "data_cache"),
    ("flash_timing", "unified"), ("power",), ("trigger",), ("programming",),
    *(("programming", key) for key in ("pyocd_target", "pyocd_pack", "openocd", "uf2_family",
                                       "uf2_label", "stm32_product", "usb", "chip_id")),
}  # fmt: skip


@pytest.mark.parametrize("path", [p for p in BOARD_KEYS if p not in OPTIONAL], ids=".".join)
def test_a_missing_key_is_named(path: tuple[str, ...]) -> None:
    document = board_document()
    del table_of(document, path)[path[-1]]
    with pytest.raises(BoardError, match=f"here.toml: {'.'.join(path)}: missing"):
        boards.parse(document, "here.toml")


@pytest.mark.parametrize("path", BOARD_KEYS, ids=".".join)
@pytest.mark.parametrize("value", [True, 1.5, [], "", -1])
def test_a_value_of_the_wrong_type_is_named(path: tuple[str, ...], value: Any) -> None:
    document = board_document()
    given = table_of(document, path)[path[-1]]
    fits = type(given) is type(value) and isinstance(given, bool | float | list)
    if fits:
        return
    table_of(document, path)[path[-1]] = value
    with pytest.raises(BoardError, match=f"here.toml: {'.'.join(path)}: "):
        boards.parse(document, "here.toml")


@pytest.mark.parametrize("path", [(), *(p for p in BOARD_KEYS if len(p) == 1)], ids=".".join)
def test_an_unknown_key_is_named(path: tuple[str, ...]) -> None:
    document = board_document()
    table = document
    for key in path:
        if not isinstance(table[key], dict):
            return
        table = table[key]
    table["colour"] = "blue"
    with pytest.raises(BoardError, match=r"colour: unknown key"):
        boards.parse(document, "here.toml")


@pytest.mark.parametrize("path", CORE_KEYS, ids=".".join)
def test_core_files_are_as_strict(path: tuple[str, ...]) -> None:
    missing = core_document()
    del table_of(missing, path)[path[-1]]
    if path != ("timing",):
        with pytest.raises(BoardError, match=f"{'.'.join(path)}: missing"):
            boards.parse_core(missing, "core.toml")
    else:
        assert boards.parse_core(missing, "core.toml").timing is None
    wrong = core_document()
    table_of(wrong, path)[path[-1]] = 3.25
    with pytest.raises(BoardError, match=f"{'.'.join(path)}: "):
        boards.parse_core(wrong, "core.toml")
    unknown = core_document()
    table_of(unknown, path)["extra"] = 1
    with pytest.raises(BoardError, match="extra: unknown key"):
        boards.parse_core(unknown, "core.toml")


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("schema",), 2, "2 is not 1"),
        (("core",), "cortex-m85", "no core 'cortex-m85'"),
        (("core",), "../boards", "no core"),
        (("console", "driver"), "telepathy", "not one of"),
        (("stack", "size"), 4100, "multiple of 8"),
        (("stack", "size"), 640 * 1024, "below the RAM's"),
        (("memory", "ram", "start"), 0xFFFFFFFF, "above the 32-bit"),
        (("memory", "flash", "size"), 1 << 33, "outside"),
    ],
)
def test_values_that_make_no_sense(path: tuple[str, ...], value: Any, problem: str) -> None:
    document = board_document()
    given = table_of(document, path)[path[-1]]
    if (isinstance(given, bool) and value is True) or (isinstance(given, float) and value == 1.5):
        return
    table_of(document, path)[path[-1]] = value
    with pytest.raises(BoardError, match=problem):
        boards.parse(document, "here.toml")


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(path=st.sampled_from(BOARD_KEYS), value=values)
def test_no_value_ends_in_another_exception(path: tuple[str, ...], value: Any) -> None:
    document = copy.deepcopy(board_document())
    table_of(document, path)[path[-1]] = value
    try:
        boards.parse(document, "here.toml")
    except BoardError as error:
        assert str(error).count("\n") == 0 or isinstance(value, str)


def test_a_board_of_ones_own(tmp_path: Path) -> None:
    text = ROOT.joinpath("microbit", "board.toml").read_text()
    (tmp_path / "board.toml").write_text(text.replace('name = "microbit"', 'name = "mine"'))
    assert boards.load(tmp_path).name == "mine"
    assert boards.load(str(tmp_path)).ram.size == 16 * 1024


def test_errors_of_files(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"no board 'arduino'.*microbit"):
        boards.load("arduino")
    (tmp_path / "board.toml").write_text("name = ")
    with pytest.raises(BoardError, match=r"board\.toml: Invalid"):
        boards.load(tmp_path)
    (tmp_path / "board.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BoardError, match=r"board\.toml"):
        boards.load(tmp_path)


REAL = [name for name in boards.names() if not name.startswith("mps")]


@pytest.mark.parametrize("name", REAL)
def test_real_boards_have_current_waits_a_trigger_and_a_way_to_be_written(name: str) -> None:
    board = boards.load(name)
    assert board.flash_timing is not None and board.power is not None
    assert board.trigger is not None and board.programming is not None
    assert 0.5 < board.power.active_ma / (board.clock.hz / 1e6) / 0.05 < 20  # 25 to 1,000 uA/MHz
    assert board.power.sleep_ua < board.power.active_ma * 1e3
    for cache in (board.flash_timing.instruction_cache, board.flash_timing.data_cache):
        assert cache is None or cache.line_bytes % board.flash_timing.read_bytes == 0


def test_what_no_source_confirms_says_so() -> None:
    """Such figures are listed, so that a new one is a decision."""
    unconfirmed = {
        name: [
            ".".join(path)
            for path in paths(board_document(name))
            if path[-1].endswith("source")
            and table_of(board_document(name), path)[path[-1]].startswith("unconfirmed: ")
        ]
        for name in boards.names()
    }
    allowed = {"power.source", "power.sleep_source", "flash_timing.source", "trigger.source",
               "console.source"}  # fmt: skip
    assert {path for found in unconfirmed.values() for path in found} <= allowed
    assert sum(len(found) for found in unconfirmed.values()) <= 70
    # What was measured on a workload is never from memory.
    for name in REAL:
        power = boards.load(name).power
        assert power is not None
        assert power.grade != "A" or not power.source.startswith("unconfirmed")
