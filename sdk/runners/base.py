"""What a runner is, and what all of them need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from zeroskip import elf
from zeroskip.boards import Board, ChipId
from zeroskip.errors import FlashError, InputError


@dataclass(frozen=True)
class Capabilities:
    """What a way of writing does by itself."""

    verifies: bool  # reads back what was written
    checks_chip: bool  # refuses another chip before writing
    starts: bool  # leaves the board running the new firmware


@dataclass(frozen=True)
class Job:
    """What to write, and how the caller says where.

    `path` is the ELF file. `port` is a serial port, `probe` the id of a debug probe, `pack` a
    CMSIS-Pack, `gdb` the "host:port" of a gdb server, `drive` the folder of a UF2 drive.
    """

    path: Path
    image: elf.Elf
    port: str | None = None
    probe: str | None = None
    pack: Path | None = None
    gdb: str | None = None
    drive: Path | None = None

    @cached_property
    def pieces(self) -> tuple[tuple[int, bytes], ...]:
        """(address, data) of what goes into the memories, by address; segments that touch are one
        piece. Raises InputError for segments that overlap, and for a file that holds none."""
        found: list[tuple[int, bytes]] = []
        for address, data in sorted(
            (s.load_address, s.data) for s in self.image.segments if s.data
        ):
            end = found[-1][0] + len(found[-1][1]) if found else -1
            if address < end:
                raise InputError(f"{self.path.name}: two segments overlap at {address:#010x}")
            if address == end:
                found[-1] = (found[-1][0], found[-1][1] + data)
            else:
                found.append((address, data))
        if not found:
            raise InputError(f"{self.path.name}: the ELF file holds nothing to write")
        return tuple(found)

    def blocks(self, size: int, fill: int) -> tuple[tuple[int, bytes], ...]:
        """The pieces in blocks of `size` bytes at multiples of `size`, gaps holding `fill`;
        blocks that no piece touches are left out."""
        filled: dict[int, bytearray] = {}
        for address, data in self.pieces:
            for base in range(address - address % size, address + len(data), size):
                block = filled.setdefault(base, bytearray([fill]) * size)
                start, end = max(base, address), min(base + size, address + len(data))
                block[start - base : end - base] = data[start - address : end - address]
        return tuple((base, bytes(filled[base])) for base in sorted(filled))

    def summary(self) -> Iterator[str]:
        """A line for each piece."""
        for address, data in self.pieces:
            yield f"{address:#010x}..{address + len(data):#010x}: {len(data):,} bytes"


@runtime_checkable
class Runner(Protocol):
    """One way of writing."""

    name: str
    capabilities: Capabilities

    def refuses(self, board: Board, job: Job) -> str | None:
        """Why this cannot write such a board with such options, here; None if it can.
        Touches no hardware."""

    def plan(self, board: Board, job: Job) -> list[str]:
        """What `write` will do, a line each. Touches nothing."""

    def write(self, board: Board, job: Job) -> list[str]:
        """Write and verify. Returns what was done, a line each. Raises FlashError, nothing being
        written if no board, two or another chip is found; MissingToolError."""


def check_fits(board: Board, job: Job) -> None:
    """Raise FlashError unless all pieces lie in the board's flash."""
    for address, data in job.pieces:
        if address < board.flash.start or address + len(data) > board.flash.end:
            raise FlashError(
                f"{job.path.name} is not for {board.name}: {len(data):,} bytes at {address:#010x} "
                f"are not in its flash of {board.flash.size:,} bytes at {board.flash.start:#010x}"
            )


def check_chip(board: Board, found: int, chip: ChipId) -> None:
    """Raise FlashError if the word that was read tells another chip."""
    if found & chip.mask != chip.value:
        raise FlashError(
            f"another chip than that of {board.name}: {chip.address:#010x} reads "
            f"{found & chip.mask:#x}, not {chip.value:#x}; nothing was written"
        )


def chip_of(board: Board) -> ChipId | None:
    return None if board.programming is None else board.programming.chip_id


def check_readback(written: bytes, found: bytes, address: int) -> None:
    """Raise FlashError, with the first address, if what was read differs."""
    if written == found:
        return
    pairs = enumerate(zip(written, found, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(written), len(found)))
    differ = sum(a != b for a, b in zip(written, found, strict=False))
    raise FlashError(
        f"verification failed at {address + at:#010x}: what was written reads otherwise "
        f"({max(differ, 1)} of {len(written)} bytes differ)"
    )
