"""UF2 files, block by block, and the drives that they go to."""

import struct
from pathlib import Path

import pytest
from flashable import board, job
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.errors import FlashError
from zeroskip.runners.uf2 import Uf2Runner, board_id_of, encode, find_drive

RUNNER = Uf2Runner()
FAMILY = 0xE48BFF56


def decode(content: bytes) -> dict[int, bytes]:
    """Pages by address, every field checked."""
    assert len(content) % 512 == 0
    pages = {}
    for number in range(len(content) // 512):
        block = content[512 * number : 512 * number + 512]
        first, second, flags, address, size, index, count, family = struct.unpack_from("<8I", block)
        assert (first, second) == (0x0A324655, 0x9E5D5157)
        assert struct.unpack_from("<I", block, 508)[0] == 0x0AB16F30
        assert (flags, size, family) == (0x2000, 256, FAMILY)
        assert (index, count) == (number, len(content) // 512)
        assert address % 256 == 0 and not any(block[32 + 256 : 508])
        pages[address] = block[32 : 32 + 256]
    return pages


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=700)), max_size=4))
def test_files_hold_the_pieces(given_pieces: list[tuple[int, bytes]]) -> None:
    base, pieces = 0x10000000, []
    for gap, data in given_pieces:
        base += gap
        pieces.append((base, data))
        base += len(data)
    pages = decode(encode(tuple(pieces), FAMILY))
    image = {a + i: byte for a, page in pages.items() for i, byte in enumerate(page)}
    used = {a + i: byte for a, data in pieces for i, byte in enumerate(data)}
    assert all(image[a] == byte for a, byte in used.items())
    assert all(byte == 0 for a, byte in image.items() if a not in used)
    assert all(any(a <= u < a + 256 for u in used) for a in pages)


def drive(folder: Path, board_id: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v3.0\nModel: x\nBoard-ID: {board_id}\n")
    return folder


def test_a_pico_gets_its_file(tmp_path: Path) -> None:
    of = board("raspberry-pi-pico")
    work = job(tmp_path, of, drive=drive(tmp_path / "drive", "RPI-RP2"))
    assert any("0xe48bff56" in line for line in RUNNER.plan(of, work))
    assert not (tmp_path / "drive" / "zeroskip.uf2").exists()
    RUNNER.write(of, work)
    pages = decode((tmp_path / "drive" / "zeroskip.uf2").read_bytes())
    for address, data in work.pieces:
        found = b"".join(pages[a] for a in sorted(pages) if address - 256 < a < address + len(data))
        assert data in found
    assert min(pages) == 0x10000000  # the second boot stage


def test_a_drive_of_another_board_stays_empty(tmp_path: Path) -> None:
    of = board("raspberry-pi-pico")
    place = drive(tmp_path / "drive", "RP2350")
    with pytest.raises(FlashError, match=r"drive of 'RP2350', not of raspberry-pi-pico"):
        RUNNER.write(of, job(tmp_path, of, drive=place))
    assert [p.name for p in place.iterdir()] == ["INFO_UF2.TXT"]


def test_drives_are_found_by_their_board_id(tmp_path: Path) -> None:
    with pytest.raises(FlashError, match="no UF2 drive RPI-RP2 is mounted"):
        find_drive("RPI-RP2", tmp_path)
    first = drive(tmp_path / "media" / "me" / "RPI-RP2", "RPI-RP2")
    drive(tmp_path / "media" / "me" / "OTHER", "RP2350")
    assert find_drive("RPI-RP2", tmp_path) == first
    drive(tmp_path / "mnt" / "pico", "RPI-RP2")
    with pytest.raises(FlashError, match="2 UF2 drives RPI-RP2 are mounted: choose with --drive"):
        find_drive("RPI-RP2", tmp_path)
    with pytest.raises(FlashError, match="is no UF2 drive"):
        board_id_of(tmp_path)
