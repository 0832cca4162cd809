"""UF2: a file is copied to a drive that the board's bootloader shows.

Blocks are those of github.com/microsoft/uf2, README: 512 bytes with 256 of data, an address, the
number of the block, the family of the chip.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from zeroskip.boards import Board
from zeroskip.errors import FlashError
from zeroskip.runners.base import Capabilities, Job, check_fits

PAYLOAD: Final = 256
_MAGIC: Final = (0x0A324655, 0x9E5D5157, 0x0AB16F30)
_FAMILY_PRESENT: Final = 0x2000
_INFO: Final = "INFO_UF2.TXT"
# Where systems mount drives, as patterns below the root.
_MOUNTS: Final = ("media/*", "media/*/*", "run/media/*/*", "mnt/*", "Volumes/*")


class Uf2Runner:
    """A copy to the drive; the bootloader checks the family, and starts what it got."""

    name = "uf2"
    capabilities = Capabilities(verifies=False, checks_chip=True, starts=True)

    def refuses(self, board: Board, job: Job) -> str | None:
        if board.programming is None or board.programming.uf2_family is None:
            return "its bootloader takes no UF2 files"
        return None

    def plan(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        drive = job.drive or f"the drive {_label(board)} that is mounted"
        blocks = sum(1 for _ in _pages(job.pieces))
        return [
            f"check that {drive} has an {_INFO} with Board-ID {_label(board)}",
            f"copy {blocks} blocks of family {_family(board):#010x} to it",
            *job.summary(),
        ]

    def write(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        drive = job.drive if job.drive is not None else find_drive(_label(board))
        board_id = board_id_of(drive)
        if board_id != _label(board):
            raise FlashError(
                f"{drive} is the drive of '{board_id}', not of {board.name} ('{_label(board)}'); "
                "nothing was written"
            )
        content = encode(job.pieces, _family(board))
        target = drive / "zeroskip.uf2"
        try:
            with target.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FlashError(f"{target}: {error.strerror or error}") from error
        return [f"{drive}: copied {len(content) // 512} blocks; the board starts them by itself"]


def encode(pieces: tuple[tuple[int, bytes], ...], family: int) -> bytes:
    """The UF2 file of pieces (address, data), in whole pages of 256 bytes; gaps within a page are
    zeros, pages without data are left out."""
    pages = list(_pages(pieces))
    out = bytearray()
    for number, (address, data) in enumerate(pages):
        head = struct.pack("<8I", _MAGIC[0], _MAGIC[1], _FAMILY_PRESENT, address, PAYLOAD, number,
                           len(pages), family)  # fmt: skip
        out += head + data + bytes(476 - PAYLOAD) + struct.pack("<I", _MAGIC[2])
    return bytes(out)


def find_drive(label: str, root: Path = Path("/")) -> Path:
    """The one mounted drive with that Board-ID. Raises FlashError for none and for two."""
    drives = {path.parent for pattern in _MOUNTS for path in root.glob(f"{pattern}/{_INFO}")}
    found = sorted(d for d in drives if board_id_of(d) == label)
    if not found:
        raise FlashError(
            f"no UF2 drive {label} is mounted: hold BOOTSEL while plugging the board in, "
            "or name the folder with --drive"
        )
    if len(found) > 1:
        raise FlashError(
            f"{len(found)} UF2 drives {label} are mounted: choose with --drive: "
            f"{', '.join(map(str, found))}"
        )
    return found[0]


def board_id_of(drive: Path) -> str:
    """The Board-ID of a drive's INFO_UF2.TXT. Raises FlashError if there is none."""
    try:
        text = (drive / _INFO).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FlashError(f"{drive} is no UF2 drive: it has no {_INFO}") from error
    for line in text.splitlines():
        if line.startswith("Board-ID:"):
            return line.partition(":")[2].strip()
    raise FlashError(f"{drive / _INFO} names no Board-ID")


def _pages(pieces: tuple[tuple[int, bytes], ...]) -> Iterator[tuple[int, bytes]]:
    pages: dict[int, bytearray] = {}
    for address, data in pieces:
        for i in range(0, len(data)):
            page = (address + i) // PAYLOAD * PAYLOAD
            pages.setdefault(page, bytearray(PAYLOAD))[address + i - page] = data[i]
    for page in sorted(pages):
        yield page, bytes(pages[page])


def _family(board: Board) -> int:
    assert board.programming is not None and board.programming.uf2_family is not None
    return board.programming.uf2_family


def _label(board: Board) -> str:
    assert board.programming is not None
    return board.programming.uf2_label or ""
