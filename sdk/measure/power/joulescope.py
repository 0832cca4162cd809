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

_BUFFER_S: Final = 300
_FIELDS: Final = ("current", "voltage", "current_lsb")


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
        device.open()
        device.parameter_set("buffer_duration", _BUFFER_S)
        device.parameter_set("current_lsb", "gpi0")
        device.parameter_set("source", "raw")
        return cls(device, volts)

    def start(self) -> None:
        self._device.start()

    def stop(self) -> Trace:
        self._device.stop()
        buffer = self._device.stream_buffer
        begin, end = buffer.sample_id_range
        if end - begin < 2:
            raise MeasureError("the Joulescope sent no samples")
        data = buffer.samples_get(begin, end, fields=list(_FIELDS))
        rate = float(self._device.sampling_frequency)
        current, voltage, levels = (
            np.asarray(data["signals"][field]["value"], np.float64) for field in _FIELDS
        )
        seconds = np.arange(len(current)) / rate
        valid = np.isfinite(current) & np.isfinite(voltage)
        edges = falling_edges(levels > 0, seconds)
        return Trace(seconds[valid], current[valid], voltage[valid], edges)
