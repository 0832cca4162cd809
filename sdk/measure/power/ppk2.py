"""Nordic's Power Profiler Kit II, through the package ppk2-api (GPL-2.0, so an extra of its own).

It supplies the board (source meter) at 100,000 samples per second, with eight logic inputs of
which D0 is the trigger.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any, Final

import numpy as np

from zeroskip.errors import MeasureError, MissingToolError
from zeroskip.measure.power import Trace, falling_edges
from zeroskip.measure.power.polling import Collector
from zeroskip.tools import has_package

SAMPLES_PER_SECOND: Final = 100_000
_TRIGGER_BIT: Final = 0
_SETTLE_S: Final = 0.5
_WORD: Final = 4
_DRAIN_S: Final = 2.0
_QUIET_S: Final = 0.1  # so long what was measured is on its way after the stop


class Ppk2:
    """A PPK2 on a serial port."""

    name = "Nordic PPK2"

    def __init__(self, api: Any, volts: float) -> None:
        self._api = api
        self.volts = volts
        self._collector: Collector | None = None

    @classmethod
    def open(cls, volts: float, port: str | None = None, settle_s: float = _SETTLE_S) -> Ppk2:
        """Supply the board with `volts`. Raises MeasureError for none, two, or a damaged one."""
        if not has_package("ppk2_api"):
            raise MissingToolError("ppk2-api is not installed (pip install 'zeroskip[ppk2]')")
        library: Any = import_module("ppk2_api.ppk2_api").PPK2_API
        if port is None:
            # Later versions of the library give pairs of port and serial number.
            found = [d[0] if isinstance(d, tuple) else d for d in library.list_devices()]
            if len(found) != 1:
                raise MeasureError(
                    f"{len(found) or 'no'} PPK2 found: {', '.join(found) or 'is it plugged in?'}"
                )
            port = found[0]
        try:
            api = library(port, timeout=1, write_timeout=1)
            api.stop_measuring()  # the one who used it before may not have
            _drain(api)
            if not api.get_modifiers():
                raise MeasureError(f"{port} does not answer as a PPK2")
            api.set_source_voltage(round(volts * 1000))
            api.use_source_meter()
            api.toggle_DUT_power("ON")
        except UnicodeDecodeError as error:
            raise MeasureError(f"{port} does not answer as a PPK2") from error
        except OSError as error:  # serial.SerialException is one
            raise MeasureError(f"{port}: {error}") from error
        time.sleep(settle_s)
        return cls(api, volts)

    def start(self) -> None:
        self._api.start_measuring()
        self._collector = Collector(self._api.get_data)

    def stop(self) -> Trace:
        assert self._collector is not None
        self._api.stop_measuring()
        time.sleep(_QUIET_S)
        data = self._collector.finish()
        self._collector = None
        if len(data) < 2 * _WORD:
            raise MeasureError("the PPK2 sent no samples")
        # Whole samples, so that the library keeps no rest for the next run.
        microamperes, bits = self._api.get_samples(data[: len(data) // _WORD * _WORD])
        seconds = np.arange(len(microamperes)) / SAMPLES_PER_SECOND
        levels = np.array(bits) >> _TRIGGER_BIT & 1
        amperes = np.array(microamperes) * 1e-6
        volts = np.full(len(amperes), self.volts)
        return Trace(seconds, amperes, volts, falling_edges(levels, seconds))

    def close(self) -> None:
        if self._collector is not None:
            self._api.stop_measuring()
            self._collector.finish()
            self._collector = None
        self._api.toggle_DUT_power("OFF")
        self._api.ser.close()


def _drain(api: Any) -> None:
    """Drop what is on its way."""
    deadline = time.monotonic() + _DRAIN_S
    time.sleep(_QUIET_S)
    while api.get_data() and time.monotonic() < deadline:
        time.sleep(_QUIET_S)
