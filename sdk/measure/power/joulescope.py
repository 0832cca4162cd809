"""Joulescope JS110 and JS220, through the package joulescope. The trigger is on IN0.

It measures what another source supplies; `volts` is that source's, for the report.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np

from zeroskip.errors import MeasureError, MissingToolError
from zeroskip.measure.power import Trace, falling_edges
from zeroskip.tools import has_package

# Of 15 bytes a sample in the library's buffer: 90 MB. Averages keep the energy, and show the
# trigger's pulse of two samples.
SAMPLES_PER_SECOND: Final = 100_000
_BUFFER_S: Final = 60
_FIELDS: Final = ("current", "voltage", "current_lsb")
PARAMETERS: Final = {
    "sampling_frequency": SAMPLES_PER_SECOND,
    "buffer_duration": _BUFFER_S,
    "source": "raw",
    "current_lsb": "gpi0",
}


class Joulescope:
    """One Joulescope that streams into its buffer."""

    name = "Joulescope"

    def __init__(self, device: Any, volts: float) -> None:
        self._device = device
        self.volts = volts

    @classmethod
    def open(cls, volts: float) -> Joulescope:
        """The one that is connected. Raises MeasureError for none and for two."""
        if not has_package("joulescope"):
            raise MissingToolError(
                "joulescope is not installed (pip install 'zeroskip[joulescope]')"
            )
        found = import_module("joulescope").scan(config="auto")
        if len(found) != 1:
            raise MeasureError(f"{len(found) or 'no'} Joulescope found: one is needed")
        device = found[0]
        try:
            device.open()
            for name, value in PARAMETERS.items():
                device.parameter_set(name, value)
        except Exception as error:  # the library has errors of many kinds
            raise MeasureError(f"the Joulescope cannot be used: {error}") from error
        return cls(device, volts)

    def start(self) -> None:
        self._device.start()

    def stop(self) -> Trace:
        self._device.stop()
        buffer = self._device.stream_buffer
        begin, end = buffer.sample_id_range
        if begin is None or end - begin < 2:
            raise MeasureError("the Joulescope sent no samples")
        if end - begin >= len(buffer) - 1:
            raise MeasureError(
                f"the run filled the Joulescope's buffer of {_BUFFER_S} s: fewer --iterations"
            )
        data = buffer.samples_get(begin, end, fields=list(_FIELDS))
        current, voltage, levels = (
            np.asarray(data["signals"][field]["value"], np.float64) for field in _FIELDS
        )
        seconds = np.arange(len(current)) / SAMPLES_PER_SECOND
        valid = np.isfinite(current) & np.isfinite(voltage)
        edges = falling_edges(levels > 0, seconds)
        return Trace(seconds[valid], current[valid], voltage[valid], edges)

    def close(self) -> None:
        self._device.close()
