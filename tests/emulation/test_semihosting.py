"""The host's side of semihosting: files in one folder, text, exit."""

import struct
from pathlib import Path

import pytest

from zeroskip.emulation.semihosting import (
    SYS_EXIT_EXTENDED,
    SYS_OPEN,
    SYS_READ,
    SYS_WRITE,
    SYS_WRITE0,
    Semihosting,
)


class Guest:
    """A guest with 1 KB of memory, its call blocks at 0."""

    def __init__(self, folder: Path) -> None:
        self.memory = bytearray(1024)
        self.host = Semihosting(folder)

    def read(self, address: int, size: int) -> bytearray:
        return self.memory[address : address + size]

    def write(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data

    def call(self, operation: int, *words: int) -> int | None:
        self.write(0, struct.pack(f"<{len(words)}I", *words))
        return self.host.call(operation, 0, self.read, self.write)

    def open(self, name: bytes, mode: int) -> int | None:
        self.write(256, name)
        return self.call(SYS_OPEN, 256, mode, len(name))


def test_files(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    out = guest.open(b"out.bin", 5)
    assert out == 1
    guest.write(512, b"hello")
    assert guest.call(SYS_WRITE, out, 512, 5) == 0
    (tmp_path / "in.bin").write_bytes(b"abc")
    source = guest.open(b"in.bin", 1)
    assert source == 2
    assert guest.call(SYS_READ, source, 600, 2) == 0
    assert guest.call(SYS_READ, source, 602, 4) == 3  # one byte came, three did not
    assert guest.read(600, 3) == b"abc"
    assert guest.call(SYS_EXIT_EXTENDED, 0x20026, 7) is None
    assert guest.host.exit_status == 7
    assert (tmp_path / "out.bin").read_bytes() == b"hello"


@pytest.mark.parametrize("name", [b"../secret", b"/etc/passwd", b"missing.bin", b"a/b", b".."])
def test_only_files_of_the_folder(name: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    assert Guest(folder).open(name, 1) == -1
    assert Guest(folder).open(b"file", 9) == -1


def test_text_and_what_is_not_supported(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    guest.write(0, b"first \0")
    assert guest.host.call(SYS_WRITE0, 0, guest.read, guest.write) == 0
    guest.write(0, b"second\0")
    guest.host.call(SYS_WRITE0, 0, guest.read, guest.write)
    assert guest.host.console == "first second"
    assert guest.call(SYS_WRITE, 5, 0, 3) == 3
    assert guest.call(SYS_READ, 5, 0, 3) == 3
    assert guest.call(0x55) == -1
