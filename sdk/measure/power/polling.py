"""Collecting what an instrument sends while the board works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from zeroskip.errors import MeasureError

_JOIN_S: Final = 5.0
_PAUSE_S: Final = 0.002


class Collector:
    """Calls `read` over and over in a thread, and keeps what it gives."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._parts: list[bytes] = []
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> bytes:
        """Everything that was read. Raises MeasureError if reading failed."""
        self._stop.set()
        self._thread.join(_JOIN_S)
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
