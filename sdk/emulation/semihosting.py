"""The host's side of semihosting, as far as the port uses it (runtime_c/port/semihost.c).

Operations and blocks: Arm "Semihosting for AArch32 and AArch64", version 3.0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

SYS_OPEN: Final = 0x01
SYS_WRITE0: Final = 0x04
SYS_WRITE: Final = 0x05
SYS_READ: Final = 0x06
SYS_EXIT_EXTENDED: Final = 0x20

_MODES: Final = {1: "rb", 5: "wb"}
_TEXT_LIMIT: Final = 4096

Read = Callable[[int, int], bytearray]
Write = Callable[[int, bytes], None]


class Semihosting:
    """Serves one run. The guest reaches only files directly inside `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, BinaryIO] = {}
        self.console = ""
        self.exit_status: int | None = None

    def call(self, operation: int, block: int, read: Read, write: Write) -> int | None:
        """Serve one call; `read` and `write` reach the guest's memory.

        Returns the answer for r0, or None after the guest has asked to exit.
        """

        def words(count: int) -> tuple[int, ...]:
            return struct.unpack(f"<{count}I", read(block, 4 * count))

        if operation == SYS_OPEN:
            place, mode, length = words(3)
            return self._open(bytes(read(place, min(length, _TEXT_LIMIT))), mode)
        if operation == SYS_WRITE0:
            text = bytearray()
            while len(text) < _TEXT_LIMIT and (byte := read(block + len(text), 1)[0]) != 0:
                text.append(byte)
            self.console += text.decode("utf-8", "replace")
            return 0
        if operation == SYS_WRITE:
            handle, place, size = words(3)
            if (file := self._files.get(handle)) is None:
                return size
            file.write(read(place, size))
            return 0
        if operation == SYS_READ:
            handle, place, size = words(3)
            if (file := self._files.get(handle)) is None:
                return size
            data = file.read(size)
            write(place, data)
            return size - len(data)
        if operation == SYS_EXIT_EXTENDED:
            _, self.exit_status = words(2)
            self.close()
            return None
        return -1

    def close(self) -> None:
        """Close what the guest left open."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _open(self, name: bytes, mode: int) -> int:
        text = name.decode("utf-8", "replace")
        if mode not in _MODES or Path(text).name != text:
            return -1
        try:
            file = open(self._folder / text, _MODES[mode])
        except OSError:
            return -1
        handle = len(self._files) + 1
        self._files[handle] = file  # type: ignore[assignment]
        return handle
