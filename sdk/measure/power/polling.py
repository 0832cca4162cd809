"""Collecting what an instrument sends while the board works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from zeroskip.errors import MeasureError

_JOIN_S: Final = 5.0
_PAUSE_S: Final = 0.002
_TAIL_PARTS: Final = 64  # at a character each still more than an answer is long


class Collector:
    """Calls `read` over and over in a thread, and keeps what it gives."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._parts: list[bytes] = []
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self, until: bytes = b"") -> bytes:
        """Everything that was read, up to `until` if that comes soon. Raises MeasureError if
        reading failed."""
        deadline = time.monotonic() + _JOIN_S
        while until and until not in b"".join(self._parts[-_TAIL_PARTS:]):
            if not self._thread.is_alive() or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_S)
        self._stop.set()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            raise MeasureError("the instrument stopped answering")
        if self._error is not None:
            raise MeasureError(f"the instrument stopped answering: {self._error}")
        return b"".join(self._parts)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                part = self._read()
                if part:
                    self._parts.append(part)
                else:
                    self._stop.wait(_PAUSE_S)
            self._parts.append(self._read())
        except Exception as error:  # of the library or the port; told by finish()
            self._error = error
