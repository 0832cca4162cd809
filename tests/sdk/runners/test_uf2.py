"""UF2 files, block by block, and the drives that they go to."""

import errno
import os
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from flashable import board, job, pieces_job
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.errors import FlashError
from zeroskip.runners.uf2 import Uf2Runner, board_id_of, encode, find_drive, mounts_of

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
@given(
    st.lists(
        st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=700)), min_size=1, max_size=4
    )
)
def test_files_hold_the_pieces(given_pieces: list[tuple[int, bytes]]) -> None:
    base, pieces = 0x10000000, []
    for gap, data in given_pieces:
        base += gap
        pieces.append((base, data))
        base += len(data)
    pages = decode(encode(pieces_job(*pieces).blocks(256, fill=0), FAMILY))
    image = {a + i: byte for a, page in pages.items() for i, byte in enumerate(page)}
    used = {a + i: byte for a, data in pieces for i, byte in enumerate(data)}
    assert all(image[a] == byte for a, byte in used.items())
    assert all(byte == 0 for a, byte in image.items() if a not in used)
    assert {u - u % 256 for u in used} == set(pages)


def drive(folder: Path, board_id: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v3.0\nModel: x\nBoard-ID: {board_id}\n")
    return folder


def restart(place: Path, wanted: int) -> threading.Thread:
    """The bootloader: when the file has `wanted` bytes, it keeps them and the drive is gone."""

    def watch() -> None:
        file = place / "zeroskip.uf2"
        while not file.exists() or file.stat().st_size < wanted:
            time.sleep(0.01)
        place.rename(place.with_name("gone"))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_pico_gets_its_file(tmp_path: Path) -> None:
    of = board("raspberry-pi-pico")
    place = drive(tmp_path / "drive", "RPI-RP2")
    work = job(tmp_path, of, drive=place)
    assert any("0xe48bff56" in line for line in RUNNER.plan(of, work))
    assert [p.name for p in place.iterdir()] == ["INFO_UF2.TXT"]
    # gcc's linker gives one piece, Zig's several that follow each other.
    base = work.pieces[0][0]
    touched = {
        page
        for address, data in work.pieces
        for page in range(address // 256, (address + len(data) - 1) // 256 + 1)
    }
    blocks = len(touched)
    bootloader = restart(place, blocks * 512)
    (said,) = RUNNER.write(of, work)
    bootloader.join()
    assert f"took {blocks} blocks" in said and "restarted" in said
    pages = decode((tmp_path / "gone" / "zeroskip.uf2").read_bytes())
    assert base == min(pages) == 0x10000000  # the second boot stage
    assert set(pages) == {page * 256 for page in touched}
    found = {a + i: byte for a, page in pages.items() for i, byte in enumerate(page)}
    for address, data in work.pieces:
        assert bytes(found[a] for a in range(address, address + len(data))) == data


def test_a_board_that_does_not_take_the_file_is_one_line(tmp_path: Path) -> None:
    of = board("raspberry-pi-pico")
    work = job(tmp_path, of, drive=drive(tmp_path / "drive", "RPI-RP2"))
    with pytest.raises(FlashError, match=r"still there 0\.2 s after the copy"):
        Uf2Runner(patience_s=0.2).write(of, work)


def test_a_drive_that_goes_before_the_file_is_closed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boards restart on the last block; the system then cannot flush what it has written."""
    of = board("raspberry-pi-pico")
    place = drive(tmp_path / "drive", "RPI-RP2")
    work = job(tmp_path, of, drive=place)

    def gone(descriptor: int) -> None:
        place.rename(tmp_path / "gone")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", gone)
    assert "restarted" in RUNNER.write(of, work)[0]


def test_a_full_drive_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = board("raspberry-pi-pico")
    work = job(tmp_path, of, drive=drive(tmp_path / "drive", "RPI-RP2"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FlashError, match=r"zeroskip\.uf2: No space left on device"):
        RUNNER.write(of, work)


def test_a_drive_of_another_board_stays_empty(tmp_path: Path) -> None:
    of = board("raspberry-pi-pico")
    place = drive(tmp_path / "drive", "RP2350")
    with pytest.raises(FlashError, match=r"drive of 'RP2350', not of raspberry-pi-pico"):
        RUNNER.write(of, job(tmp_path, of, drive=place))
    assert [p.name for p in place.iterdir()] == ["INFO_UF2.TXT"]


def test_drives_are_found_by_their_board_id(tmp_path: Path) -> None:
    first = drive(tmp_path / "a", "RPI-RP2")
    other = drive(tmp_path / "b", "RP2350")
    second = drive(tmp_path / "c", "RPI-RP2")
    with pytest.raises(FlashError, match="no UF2 drive RPI-RP2 is mounted: hold BOOTSEL"):
        find_drive("RPI-RP2", [tmp_path])
    with pytest.raises(FlashError, match="no UF2 drive RPI-RP2 is mounted, only RP2350: hold"):
        find_drive("RPI-RP2", [other, tmp_path / "nothing"])
    assert find_drive("RPI-RP2", [other, first]) == first
    with pytest.raises(FlashError, match="2 UF2 drives RPI-RP2 are mounted: choose with --drive"):
        find_drive("RPI-RP2", [first, second])
    with pytest.raises(FlashError, match="is no UF2 drive"):
        board_id_of(tmp_path)
    (other / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\n")
    with pytest.raises(FlashError, match="names no Board-ID"):
        board_id_of(other)


def test_mounts_are_read_with_their_spaces() -> None:
    table = (
        "/dev/sda1 / ext4 rw 0 0\n"
        "/dev/sdb1 /media/me/RPI-RP2 vfat rw 0 0\n"
        "/dev/sdc1 /media/me/my\\040pico vfat rw 0 0\n\n"
    )
    assert mounts_of(table) == [Path("/media/me/RPI-RP2"), Path("/media/me/my pico")]


def test_a_probe_is_not_for_a_drive(tmp_path: Path) -> None:
    of = board("raspberry-pi-pico")
    work = pieces_job((0x10000000, b"x"))
    assert RUNNER.refuses(of, work) is None
    assert "--drive" in (RUNNER.refuses(of, replace(work, probe="1")) or "")
