"""ST's X-NUCLEO-LPM01A, by its text protocol (UM2269) over USB serial.

It supplies the board, up to 50 mA, and sends the energy of each fifth of a millisecond as decimal
numbers such as 6409-10 for 640.9 nJ; falling edges on its D7 come as "event" lines between them,
and the time as "TimeStamp" lines. The MLPerf Tiny runner uses it in the same way
(github.com/mlcommons/tiny, benchmark/runner/power_manager/power_manager_lpm.py, which holds ST's
table of commands and limits, too).
"""

from __future__ import annotations

import re
import time
from typing import Any, Final

import numpy as np

from zeroskip.errors import MeasureError
from zeroskip.measure.power import Trace
from zeroskip.measure.power.polling import Collector
from zeroskip.runners.ports import serial_module

BAUD: Final = 3_686_400
USB: Final = (0x0483, 0x5740)
SAMPLES_PER_SECOND: Final = 5000  # the most that decimal numbers allow for more than a second
_TIMEOUT_S: Final = 2.0
_LOSS: Final = 0.01  # of the samples, by the time stamps
_END: Final = b"Acquisition completed"
_TOKEN: Final = re.compile(
    rb"(\d{4})([+-]\d{2})|(event \d+ ris)|TimeStamp:[ ><]*(\d{3})s (\d{3})ms"
)


class Lpm01a:
    """An LPM01A on an open port."""

    name = "X-NUCLEO-LPM01A"

    def __init__(self, line: Any, volts: float) -> None:
        self._line = line
        self.volts = volts
        self._collector: Collector | None = None
        self._early = b""  # samples that came with the answer to "start"
        if not 1.8 <= volts <= 3.3:
            raise MeasureError(f"the LPM01A supplies 1.8 to 3.3 V, not {volts:g} V")
        for command in (
            "htc", "pwr off", "acqtime inf", "trigdelay 0", "trigsrc sw", "eventsrc d7 fal",
            "output energy", "format ascii_dec", f"freq {SAMPLES_PER_SECOND // 1000}k",
            f"volt {round(volts * 1000)}m", "pwr on nostatus",
        ):  # fmt: skip
            self._command(command)

    @classmethod
    def open(cls, volts: float, port: str | None = None) -> Lpm01a:
        """Supply the board with `volts`. Raises MeasureError for none, two, or a damaged one."""
        serial = serial_module()
        if port is None:
            listed = serial_module("serial.tools.list_ports").comports()
            found = [p.device for p in listed if (p.vid, p.pid) == USB]
            if len(found) != 1:
                names = ", ".join(found) or "is it plugged in?"
                raise MeasureError(f"{len(found) or 'no'} LPM01A found: {names}")
            port = found[0]
        try:
            return cls(serial.Serial(port, BAUD, timeout=0.05), volts)
        except OSError as error:
            raise MeasureError(f"{port}: {error}") from error

    def start(self) -> None:
        self._early = self._command("start")
        self._collector = Collector(lambda: bytes(self._line.read(4096)))

    def stop(self) -> Trace:
        assert self._collector is not None
        self._line.write(b"stop\n")
        data = self._early + self._collector.finish(_END)
        self._collector = None
        joules: list[float] = []
        edges: list[float] = []
        stamps: list[tuple[float, int]] = []  # a time in seconds, and the samples before it
        for mantissa, exponent, event, seconds, milliseconds in _TOKEN.findall(data):
            if mantissa:
                joules.append(int(mantissa) * 10.0 ** int(exponent))
            elif event:
                edges.append(len(joules) / SAMPLES_PER_SECOND)
            else:
                stamps.append((int(seconds) + int(milliseconds) / 1000, len(joules)))
        if len(joules) < 2:
            raise MeasureError("the LPM01A sent no samples")
        _check_complete(stamps)
        # A sample is the mean over its time, and stands in the middle of it.
        times = (np.arange(len(joules)) + 0.5) / SAMPLES_PER_SECOND
        amperes = np.array(joules) * SAMPLES_PER_SECOND / self.volts
        return Trace(times, amperes, np.full(len(joules), self.volts), np.array(edges))

    def close(self) -> None:
        if self._collector is not None:
            self._line.write(b"stop\n")
            self._collector.finish(_END)
            self._collector = None
        for command in ("pwr off", "hrc"):
            self._command(command)
        self._line.close()

    def _command(self, text: str) -> bytes:
        """Send a command and wait for its acknowledgement; what came behind it."""
        self._line.write(text.encode() + b"\n")
        deadline = time.monotonic() + _TIMEOUT_S
        answer: bytes = b""
        while time.monotonic() < deadline:
            answer += bytes(self._line.read(256))
            _, acknowledged, rest = answer.partition(b"ack " + text.split()[0].encode())
            if acknowledged and b"\n" in rest:
                return rest.partition(b"\n")[2]
            if b"error " in answer:
                break
        said = " ".join(answer.decode("ascii", "replace").split()) or "nothing"
        raise MeasureError(f"the LPM01A answers '{text}' with {said[:80]}")


def _check_complete(stamps: list[tuple[float, int]]) -> None:
    """Raise MeasureError if there are fewer samples than the time between the stamps holds."""
    if len(stamps) < 2:
        return
    expected = (stamps[-1][0] - stamps[0][0]) * SAMPLES_PER_SECOND
    lost = expected - (stamps[-1][1] - stamps[0][1])
    if lost > _LOSS * expected:
        raise MeasureError(f"{lost:.0f} of {expected:.0f} samples of the LPM01A were lost")
