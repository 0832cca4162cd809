"""ST's X-NUCLEO-LPM01A, by its text protocol (UM2269) over USB serial.

It supplies the board, up to 50 mA; falling edges on its D7 come as "event" lines between the
samples, which are decimal numbers such as 6409-07 for 640.9 uA.
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
SAMPLES_PER_SECOND: Final = 10_000  # the most in decimal format
_TIMEOUT_S: Final = 2.0
_SAMPLE: Final = re.compile(rb"(\d{4})([+-]\d{2})")
_TOKEN: Final = re.compile(rb"(\d{4}[+-]\d{2})|(event \d+ ris)")


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
            "output current", "format ascii_dec", f"freq {SAMPLES_PER_SECOND // 1000}k",
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
        time.sleep(0.1)  # what is under way
        data = self._early + self._collector.finish()
        currents: list[float] = []
        edges: list[float] = []
        for sample, _ in _TOKEN.findall(data):
            if not sample:
                edges.append(len(currents) / SAMPLES_PER_SECOND)
                continue
            mantissa, exponent = _SAMPLE.fullmatch(sample).groups()  # type: ignore[union-attr]
            currents.append(int(mantissa) * 10.0 ** int(exponent))
        if len(currents) < 2:
            raise MeasureError("the LPM01A sent no samples")
        seconds = np.arange(len(currents)) / SAMPLES_PER_SECOND
        volts = np.full(len(currents), self.volts)
        return Trace(seconds, np.array(currents), volts, np.array(edges))

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
