"""UF2: a file is copied to a drive that the board's bootloader shows.

Blocks are those of github.com/microsoft/uf2, README: 512 bytes with 256 of data, an address, the
number of the block, the family of the chip.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from zeroskip.boards import Board
from zeroskip.errors import FlashError
from zeroskip.runners.base import Capabilities, Job, check_fits

PAYLOAD: Final = 256
FILE: Final = "zeroskip.uf2"
_MAGIC: Final = (0x0A324655, 0x9E5D5157, 0x0AB16F30)
_FAMILY_PRESENT: Final = 0x2000
_INFO: Final = "INFO_UF2.TXT"
_PATIENCE_S: Final = 10.0
_STEP_S: Final = 0.05
_FILESYSTEMS: Final = ("vfat", "msdos", "exfat", "fuseblk")


class Uf2Runner:
    """A copy to the drive; the bootloader checks the family, and starts what it got.

    It gives nothing to read back. But it leaves the bus, and the drive is gone, when it has every
    block of the file, and not before (RP2040 Datasheet, section 2.8.5.2): that is waited for.
    """

    name = "uf2"
    capabilities = Capabilities(verifies=False, checks_chip=True, starts=True)

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s

    def refuses(self, board: Board, job: Job) -> str | None:
        if board.programming is None or board.programming.uf2_family is None:
            return "its bootloader takes no UF2 files"
        if job.probe is not None or job.pack is not None:
            return "it takes neither --probe nor --pack: a drive is named with --drive"
        return None

    def plan(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        drive = job.drive or f"the drive {_label(board)} that is mounted"
        blocks = len(job.blocks(PAYLOAD, fill=0))
        return [
            f"check that {drive} has an {_INFO} with Board-ID {_label(board)}",
            f"copy {blocks} blocks, {blocks * 512:,} bytes, of family {_family(board):#010x} to it",
            *job.summary(),
            "wait until the drive is gone: the bootloader has every block and restarts",
        ]

    def write(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        drive = job.drive if job.drive is not None else find_drive(_label(board), mounted())
        board_id = board_id_of(drive)
        if board_id != _label(board):
            raise FlashError(
                f"{drive} is the drive of '{board_id}', not of {board.name} ('{_label(board)}'); "
                "nothing was written"
            )
        content = encode(job.blocks(PAYLOAD, fill=0), _family(board))
        _copy(drive / FILE, content)
        deadline = time.monotonic() + self._patience_s
        while (drive / _INFO).exists():
            if time.monotonic() > deadline:
                raise FlashError(
                    f"{drive} is still there {self._patience_s:g} s after the copy: the bootloader "
                    "did not take the file"
                )
            time.sleep(_STEP_S)
        return [f"{drive}: took {len(content) // 512} blocks, and the board restarted"]


def _copy(target: Path, content: bytes) -> None:
    try:
        with target.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # With the last block the board may restart before the file is closed.
        if (target.parent / _INFO).exists():
            raise FlashError(f"{target}: {error.strerror or error}") from error


def encode(blocks: Sequence[tuple[int, bytes]], family: int) -> bytes:
    """The UF2 file of blocks (address, 256 bytes)."""
    return b"".join(
        struct.pack("<8I476sI", _MAGIC[0], _MAGIC[1], _FAMILY_PRESENT, address, PAYLOAD, number,
                    len(blocks), family, data, _MAGIC[2])
        for number, (address, data) in enumerate(blocks)
    )  # fmt: skip


def mounted() -> list[Path]:
    """Where this computer has mounted drives."""
    if sys.platform == "win32":
        return [Path(f"{letter}:\\") for letter in "DEFGHIJKLMNOPQRSTUVWXYZ"]
    if sys.platform == "darwin":
        return list(Path("/Volumes").iterdir())
    return mounts_of(Path("/proc/mounts").read_text(encoding="utf-8", errors="replace"))


def mounts_of(table: str) -> list[Path]:
    """The folders of a table of mounts (fstab(5)) whose file systems a UF2 drive may have."""
    rows = [line.split() for line in table.splitlines()]
    return [
        # Spaces are written as three octal digits.
        Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), row[1]))
        for row in rows
        if len(row) > 2 and row[2] in _FILESYSTEMS
    ]


def find_drive(label: str, folders: Sequence[Path]) -> Path:
    """The one of `folders` with that Board-ID. Raises FlashError for none and for two."""
    drives = {f: board_id_of(f) for f in folders if (f / _INFO).is_file()}
    found = sorted(f for f, board_id in drives.items() if board_id == label)
    if not found:
        others = f", only {', '.join(sorted(drives.values()))}" if drives else ""
        raise FlashError(
            f"no UF2 drive {label} is mounted{others}: hold BOOTSEL while plugging the board in, "
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


def _family(board: Board) -> int:
    assert board.programming is not None and board.programming.uf2_family is not None
    return board.programming.uf2_family


def _label(board: Board) -> str:
    assert board.programming is not None
    return board.programming.uf2_label or ""
