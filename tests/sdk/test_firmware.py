"""Building firmware: what fits, what is in the image, what happens when it goes wrong."""

import dataclasses
import os
import struct
import zlib
from pathlib import Path
from typing import get_args

import pytest
from device_models import small_model, wide_container

from zeroskip import boards, elf, firmware
from zeroskip.errors import (
    FitError,
    FormatError,
    InputError,
    MissingToolError,
    ToolError,
)

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = (
    pytest.param("gcc", marks=pytest.mark.tool("arm-none-eabi-gcc")),
    pytest.param("zig", marks=pytest.mark.tool("ziglang")),
)
IMAGES = get_args(firmware.Image)


def build(
    tmp_path: Path,
    board: boards.Board,
    compiler: firmware.Compiler | None = None,
    image: firmware.Image = "board",
    **options: firmware.Optimize,
) -> tuple[firmware.Firmware, elf.Elf]:
    made = firmware.build(
        small_model(0)[0],
        board,
        output=tmp_path / "firmware.elf",
        compiler=compiler,
        image=image,
        **options,
    )
    return made, elf.parse(made.path.read_bytes())


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("name", boards.names())
def test_every_board_links(
    name: str, image: firmware.Image, compiler: firmware.Compiler, tmp_path: Path
) -> None:
    board = boards.load(name)
    made, parsed = build(tmp_path, board, compiler, image)
    blob = small_model(0)[0]
    flash = board.emulation.flash_start if image == "emulated" else board.flash.start
    ram = board.emulation.ram_start if image == "emulated" else board.ram.start

    vectors = parsed.section(".vectors")
    assert vectors is not None
    booted = name == "raspberry-pi-pico" and image == "board"
    assert vectors.address == flash + (256 if booted else 0)
    stack, reset, _, hard_fault = struct.unpack("<4I", parsed.read(vectors.address, 16))
    assert stack == ram + board.stack.size == parsed.symbol("port_stack_end")
    assert reset == parsed.symbol("port_reset") | 1
    assert hard_fault == parsed.symbol("port_hardfault") | 1
    assert parsed.read(parsed.symbol("port_model_start"), len(blob)) == blob
    assert parsed.symbol("port_model_start") % 4 == 0

    arena = parsed.section(".arena")
    assert arena is not None
    (arena_size,) = struct.unpack_from("<I", blob, 12)
    assert arena.size == arena_size == made.sizes.ram_arena
    end = arena.address + arena.size
    if made.sizes.ram_input:
        kept = parsed.section(".input")
        assert kept is not None and kept.address == end and kept.size == made.sizes.ram_input
        end += kept.size
    assert arena.address % 16 == 0 and end == ram + made.sizes.ram
    assert made.sizes.ram <= board.ram.size
    last = max(s.load_address + len(s.data) for s in parsed.segments if s.data)
    assert last - flash == made.sizes.flash == made.sizes.flash_model + made.sizes.flash_code
    assert len(blob) <= made.sizes.flash_model < len(blob) + 4
    assert made.compiler == compiler


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_runtime_needs_nothing_else(compiler: firmware.Compiler, tmp_path: Path) -> None:
    """No C library, no heap, no unwinder: a few symbols that would give them away."""
    _, parsed = build(tmp_path, boards.load("microbit"), compiler)
    for name in ("malloc", "printf", "_sbrk", "abort", "__aeabi_unwind_cpp_pr0", "_start"):
        assert name not in parsed.symbols


@pytest.mark.parametrize("compiler", COMPILERS)
def test_builds_are_reproducible(
    compiler: firmware.Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = boards.load("nucleo-f446re")
    images = []
    for turn in ("one", "two"):
        monkeypatch.setenv("ZEROSKIP_CACHE", str(tmp_path / turn / "cache"))
        (tmp_path / turn).mkdir()
        made, _ = build(tmp_path / turn, board, compiler)
        images.append(made.path.read_bytes())
    assert images[0] == images[1]
    for place in (str(tmp_path), str(ROOT), str(Path.home()) + "/"):
        assert place.encode() not in images[0]


def test_the_boards_memories_are_the_limit(tmp_path: Path) -> None:
    board = boards.load("nucleo-f446re")
    sizes = build(tmp_path, board)[0].sizes
    exact = dataclasses.replace(
        board,
        flash=dataclasses.replace(board.flash, size=sizes.flash),
        ram=dataclasses.replace(board.ram, size=sizes.ram),
    )
    assert build(tmp_path, exact)[0].sizes == sizes
    (tmp_path / "firmware.elf").unlink()

    less_flash = dataclasses.replace(
        exact, flash=dataclasses.replace(exact.flash, size=sizes.flash - 1)
    )
    numbers = f"flash needs {sizes.flash} of {sizes.flash - 1} bytes .*model {sizes.flash_model}"
    with pytest.raises(FitError, match=numbers):
        build(tmp_path, less_flash)
    less_ram = dataclasses.replace(exact, ram=dataclasses.replace(exact.ram, size=sizes.ram - 1))
    bare = build(tmp_path, less_ram)[0].sizes  # the input is not kept beside the arena
    assert (bare.ram_input, bare.ram_arena) == (0, sizes.ram_arena) and sizes.ram_input > 0
    (tmp_path / "firmware.elf").unlink()
    less_ram = dataclasses.replace(exact, ram=dataclasses.replace(exact.ram, size=bare.ram - 1))
    numbers = f"RAM needs {bare.ram} of {bare.ram - 1} bytes .*arena {sizes.ram_arena}"
    with pytest.raises(FitError, match=numbers):
        build(tmp_path, less_ram)
    assert os.listdir(tmp_path) == []


def test_what_cannot_fit_is_refused_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware, "find_program", lambda name: None)
    monkeypatch.setattr(firmware, "has_package", lambda name: False)
    board = boards.load("microbit")
    huge = wide_container(300, 300)
    with pytest.raises(FitError, match=r"flash needs \d+ of 262144 bytes \(the model alone\)"):
        firmware.build(huge, board, output=tmp_path / "f.elf")
    with pytest.raises(FitError, match=r"RAM needs \d+ of 16384 bytes \(arena 20004"):
        firmware.build(wide_container(5000, 1), board, output=tmp_path / "f.elf")
    with pytest.raises(MissingToolError, match="no cross compiler: install arm-none-eabi-gcc"):
        firmware.build(small_model(0)[0], board, output=tmp_path / "f.elf")
    with pytest.raises(MissingToolError, match="no cross compiler zig"):
        firmware.build(small_model(0)[0], board, output=tmp_path / "f.elf", compiler="zig")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "blob", [b"", b"ZSKP", bytes(100), b"ZSKP" + bytes(8) + b"\xff\xff\xff\xff" + bytes(40)]
)
def test_what_is_no_container_is_refused(blob: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="container"):
        firmware.build(blob, boards.load("mps2-an386"), output=tmp_path / "f.elf")


def test_options_are_checked(tmp_path: Path) -> None:
    board = boards.load("mps2-an386")
    with pytest.raises(InputError, match="compiler 'msvc'"):
        build(tmp_path, board, "msvc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="image 'rom'"):
        build(tmp_path, board, image="rom")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="optimization '9'"):
        build(tmp_path, board, optimize="9")  # type: ignore[arg-type]


def test_optimizing_for_size_gives_less_code(tmp_path: Path) -> None:
    board = boards.load("mps2-an386")
    code = {o: build(tmp_path, board, optimize=o)[0].sizes.flash_code for o in ("s", "2", "3")}
    assert code["s"] < code["2"] <= code["3"]


@pytest.mark.tool("arm-none-eabi-gcc")
def test_a_failing_compiler_is_quoted_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = firmware._resource

    def broken(*path: str) -> bytes:
        return b"#error no such luck\n" if path[-1] == "startup.c" else original(*path)

    monkeypatch.setattr(firmware, "_resource", broken)
    monkeypatch.setenv("ZEROSKIP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ToolError, match="no such luck"):
        build(tmp_path, boards.load("mps2-an386"), "gcc")
    assert not (tmp_path / "firmware.elf").exists()
    assert os.listdir(tmp_path / "cache" / "objects") == []


def test_the_second_boot_stage_of_the_rp2040_is_sealed(tmp_path: Path) -> None:
    _, parsed = build(tmp_path, boards.load("raspberry-pi-pico"))
    stage = parsed.read(0x10000000, 256)
    assert struct.unpack("<I", stage[252:])[0] == firmware.crc32_mpeg2(stage[:252])
    assert any(stage[:128]) and not any(stage[128:252])


def test_crc32_mpeg2() -> None:
    # The check value of the catalogue of parametrised CRC algorithms (reveng).
    assert firmware.crc32_mpeg2(b"123456789") == 0x0376E6E7
    # The same polynomial as zlib's, each byte's bits and the result reversed.
    data = bytes(range(256))
    mirrored = bytes(int(f"{b:08b}"[::-1], 2) for b in data)
    plain = zlib.crc32(mirrored) ^ 0xFFFFFFFF
    assert firmware.crc32_mpeg2(data) == int(f"{plain:032b}"[::-1], 2)
