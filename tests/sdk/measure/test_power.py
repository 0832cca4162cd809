"""Energy from instruments: known waveforms, and the instruments' own protocols replayed."""

import os
import struct
import sys
import threading
import time
import tty
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from zeroskip.errors import MeasureError
from zeroskip.measure.power import (
    EnergyRun,
    Trace,
    Window,
    debounced,
    energy_of,
    falling_edges,
    open_instrument,
)
from zeroskip.measure.power.joulescope import PARAMETERS
from zeroskip.measure.power.lpm01a import Lpm01a
from zeroskip.measure.power.ppk2 import Ppk2

pytest.importorskip("serial")


def trace(edges: list[float], rate: int = 100_000) -> Trace:
    """10 mA with a sine of 2 mA on it, at 3 V, for a second."""
    seconds = np.arange(rate) / rate
    amperes = 0.010 + 0.002 * np.sin(2 * np.pi * 50 * seconds)
    return Trace(seconds, amperes, np.full(rate, 3.0), np.array(edges))


def test_a_waveform_integrates_to_its_analytic_energy() -> None:
    # From 0.2 to 0.605 s: 20 periods of the sine and a quarter, which alone has an integral.
    window = energy_of(trace([0.2, 0.605]), inferences=7)
    joules = 3 * (0.010 * 0.405 + 0.002 / (2 * np.pi * 50))
    assert window.microjoules == pytest.approx(joules * 1e6 / 7, rel=1e-6)
    assert window.milliwatts == pytest.approx(joules / 0.405 * 1e3, rel=1e-6)
    assert window.seconds == pytest.approx(0.405 / 7)


def test_a_slow_instrument_comes_close() -> None:
    exact = energy_of(trace([0.2, 0.605]), 1).microjoules
    assert energy_of(trace([0.2, 0.605], rate=1000), 1).microjoules == pytest.approx(
        exact, rel=1e-3
    )


def test_edges_ring() -> None:
    rung = [0.2, 0.20001, 0.20004, 0.6, 0.60002]
    assert debounced(np.array(rung)).tolist() == [0.2, 0.6]
    assert energy_of(trace(rung), 1) == energy_of(trace([0.2, 0.6]), 1)
    levels = np.array([1, 1, 0, 0, 1, 0])
    assert falling_edges(levels, np.arange(6.0)).tolist() == [2.0, 5.0]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([], "0 edges"),
        ([0.5], "1 edges"),
        ([0.1, 0.2, 0.3], "3 edges"),
        ([0.5, 1.5], "do not cover"),
    ],
)
def test_traces_that_cannot_be_used(edges: list[float], message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        energy_of(trace(edges), 1)


def test_runs_have_a_median() -> None:
    windows = [Window(5.0, 50.0, 0.1), Window(4.0, 40.0, 0.1), Window(9.0, 90.0, 0.1)]
    run = EnergyRun.median(windows, SimpleNamespace(name="x", volts=3.0), 7)  # type: ignore[arg-type]
    assert (run.microjoules, run.milliwatts, run.runs, run.iterations) == (5.0, 50.0, 3, 7)
    assert (run.lowest_microjoules, run.highest_microjoules) == (4.0, 9.0)


class Pty:
    """A device at the other end of a pseudo-terminal."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(self.master)
        tty.setraw(slave)
        self._slave = slave
        self.port = os.ttyname(slave)
        self.seen = b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._slave)  # which ends the thread's read
        self._thread.join()  # or it would read what has the number of master next
        os.close(self.master)

    def _run(self) -> None:
        try:
            while True:
                data = os.read(self.master, 256)
                self.seen += data
                self.handle(data)
        except OSError:
            return

    def handle(self, data: bytes) -> None:
        raise NotImplementedError


LEVELS = [1] * 400 + [0] * 2 + [1] * 998 + [0] * 2 + [1] * 400  # falling at 400 and 1400


class FakePpk2(Pty):
    """Answers the byte commands of ppk2-api: meta data, then samples of four bytes."""

    META = "Calibrated: 0\n" + "".join(
        f"{name}: {value}\n"
        for i in range(5)
        for name, value in ((f"R{i}", 10.0), (f"GS{i}", 0.0), (f"GI{i}", 1.0), (f"O{i}", 0.0),
                            (f"S{i}", 0.0), (f"I{i}", 0.0), (f"UG{i}", 1.0))
    ) + "HW: 1\nIA: 1\nEND"  # fmt: skip

    LENGTHS: ClassVar = {0x06: 1, 0x07: 1, 0x0C: 2, 0x0D: 3, 0x11: 2, 0x19: 1}
    streaming = False
    garbled = False

    def handle(self, data: bytes) -> None:
        while data:
            command, data = data[0], data[self.LENGTHS[data[0]] :]
            if command == 0x19:
                os.write(self.master, b"\xff\xfe" if self.garbled else self.META.encode())
            elif command == 0x06:
                self.streaming = True
                os.write(self.master, self._samples(LEVELS))
            elif command == 0x07 and self.streaming:
                self.streaming = False
                # What was under way comes after the stop, and ends within a sample.
                os.write(self.master, self._samples([1] * 20)[:-1])

    @staticmethod
    def _samples(levels: list[int]) -> bytes:
        # 14 bits of reading, 3 of range (4), the logic inputs in the upper byte.
        words = [(1000 | 4 << 14 | (level & 1) << 24) for level in levels]
        return struct.pack(f"<{len(words)}I", *words)


@pytest.fixture
def ppk2() -> Iterator[FakePpk2]:
    device = FakePpk2()
    yield device
    device.close()


def test_a_ppk2_is_read_through_its_library(ppk2: FakePpk2) -> None:
    pytest.importorskip("ppk2_api")
    ppk2.streaming = True  # somebody left it so
    instrument = Ppk2.open(3.0, ppk2.port, settle_s=0.0)
    amperes = 1000 * 4 * 1.8 / 163840 / 10  # reading * 4 * volts per step / ohms
    for _ in range(3):
        instrument.start()
        time.sleep(0.3)
        found = instrument.stop()
        assert len(found.seconds) == len(LEVELS) + 19
        assert found.falling == pytest.approx([400 / 1e5, 1400 / 1e5])
        assert np.allclose(found.amperes, amperes)
        window = energy_of(found, 2)
        assert window.microjoules == pytest.approx(3.0 * amperes * 0.010 / 2 * 1e6)
    instrument.start()  # an error of the board: the run is not ended
    instrument.close()
    time.sleep(0.1)
    assert b"\x0d\x0b\xb8" in ppk2.seen  # 3 * 256 + 32 + 2200 = 11 * 256 + 184
    assert b"\x0c\x01" in ppk2.seen and ppk2.seen.endswith(b"\x07\x0c\x00")
    assert not ppk2.streaming


def test_what_is_no_ppk2_is_one_line(ppk2: FakePpk2) -> None:
    pytest.importorskip("ppk2_api")
    ppk2.garbled = True
    with pytest.raises(MeasureError, match="does not answer as a PPK2"):
        Ppk2.open(3.0, ppk2.port)
    with pytest.raises(MeasureError, match="nowhere"):
        Ppk2.open(3.0, "/dev/nowhere")


class FakeLpm01a(Pty):
    """Acknowledges commands; after start, ten samples a line with events and times between, and
    nothing but the end after stop."""

    refuse = b""
    lost = range(0)

    def handle(self, data: bytes) -> None:
        for command in data.split(b"\n"):
            if not command:
                continue
            if self.refuse and command.startswith(self.refuse):
                os.write(self.master, b"PowerShield > error " + command + b"\r\n")
                continue
            if command == b"stop":
                time.sleep(0.2)
                self._write("7200-08" * 10 + "\r\nPowerShield > Acquisition completed\r\n")
                continue
            os.write(self.master, b"PowerShield > ack " + command + b"\r\n")
            if command == b"start":
                text = ""
                for at in range(0, 3000, 10):
                    if at % 1000 == 0:
                        text += f"TimeStamp: 000s {at // 5:03}ms, buff 00%\r\n"
                    if at in (500, 2500):
                        text += "event 1 ris\r\n"
                    if at not in self.lost:
                        text += "7200-09" * 10 + "\r\n"  # 36 mW for 0.2 ms
                self._write(text)

    def _write(self, text: str) -> None:
        for at in range(0, len(text), 2000):  # a terminal takes no more at once
            os.write(self.master, text[at : at + 2000].encode())


@pytest.fixture
def lpm01a() -> Iterator[FakeLpm01a]:
    device = FakeLpm01a()
    yield device
    device.close()


def test_an_lpm01a_speaks_text(lpm01a: FakeLpm01a) -> None:
    instrument = Lpm01a.open(1.8, lpm01a.port)
    for _ in range(2):
        instrument.start()
        time.sleep(0.5)
        found = instrument.stop()
        assert len(found.seconds) == 3010 and np.allclose(found.amperes[:3000], 0.020)
        assert found.amperes[3000:] == pytest.approx(0.200)  # what came after the stop
        assert found.falling == pytest.approx([0.1, 0.5])
        assert energy_of(found, 4).microjoules == pytest.approx(1.8 * 0.020 * 0.4 / 4 * 1e6)
    instrument.start()
    instrument.close()
    time.sleep(0.1)
    assert b"volt 1800m\n" in lpm01a.seen and b"eventsrc d7 fal\n" in lpm01a.seen
    assert lpm01a.seen.endswith(b"start\nstop\npwr off\nhrc\n")


def test_lost_samples_are_noticed(lpm01a: FakeLpm01a) -> None:
    lpm01a.lost = range(1200, 1300)
    instrument = Lpm01a.open(1.8, lpm01a.port)
    instrument.start()
    time.sleep(0.5)
    with pytest.raises(MeasureError, match="100 of 2000 samples of the LPM01A were lost"):
        instrument.stop()


def test_an_lpm01a_that_refuses_is_one_line(lpm01a: FakeLpm01a) -> None:
    lpm01a.refuse = b"freq"
    with pytest.raises(MeasureError, match=r"answers 'freq 5k' with .*error freq"):
        Lpm01a.open(3.0, lpm01a.port)
    with pytest.raises(MeasureError, match=r"supplies 1\.8 to 3\.3 V"):
        Lpm01a.open(5.0, lpm01a.port)


class Buffer:
    """The part of the library's StreamBuffer that is used."""

    def __init__(self, length: int, first: int, signals: dict[str, Any]) -> None:
        self._length, self._first, self._signals = length, first, signals
        self.sample_id_range = (first, first + len(signals["current"])) if signals else (None, None)

    def __len__(self) -> int:
        return self._length

    def samples_get(self, begin: int, end: int, fields: list[str]) -> dict[str, Any]:
        part = slice(begin - self._first, end - self._first)
        return {"signals": {f: {"value": self._signals[f][part]} for f in fields}}


class FakeJoulescope:
    """The part of the library's device that is used."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        count = 10_000
        self.signals = {
            "current": np.full(count, 0.005, np.float32),
            "voltage": np.full(count, 3.3, np.float32),
            "current_lsb": np.ones(count, np.uint8),
        }
        self.signals["current"][:3] = np.nan  # a range change
        for at in (1000, 9000):
            self.signals["current_lsb"][at : at + 2] = 0
        self.stream_buffer = Buffer(6_000_000, 123_456, self.signals)

    def open(self) -> None:
        self.calls.append("open")

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")

    def parameter_set(self, name: str, value: Any) -> None:
        self.calls.append((name, value))


def test_a_joulescope_gives_current_voltage_and_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeJoulescope()
    found = [device]
    library = ModuleType("joulescope")
    library.__spec__ = ModuleSpec("joulescope", None)
    monkeypatch.setattr(library, "scan", lambda config: found, raising=False)
    monkeypatch.setitem(sys.modules, "joulescope", library)
    instrument = open_instrument("joulescope", 3.3)
    assert device.calls == ["open", *PARAMETERS.items()]
    instrument.start()
    window = energy_of(instrument.stop(), 8)
    assert window.microjoules == pytest.approx(3.3 * 0.005 * 0.080 / 8 * 1e6)
    device.stream_buffer = Buffer(10_000, 0, device.signals)
    with pytest.raises(MeasureError, match="filled the Joulescope's buffer of 60 s"):
        instrument.stop()
    device.stream_buffer = Buffer(10_000, 0, {})
    with pytest.raises(MeasureError, match="sent no samples"):
        instrument.stop()
    instrument.close()
    assert device.calls[-1] == "close"
    found *= 2
    with pytest.raises(MeasureError, match="2 Joulescope found"):
        open_instrument("joulescope", 3.3)
    found.clear()
    with pytest.raises(MeasureError, match="no Joulescope found"):
        open_instrument("joulescope", 3.3)


def test_no_instrument_is_one_line() -> None:
    with pytest.raises(MeasureError, match="no instrument 'ammeter': instruments are ppk2"):
        open_instrument("ammeter", 3.0)
    with pytest.raises(MeasureError, match="no LPM01A found"):
        open_instrument("lpm01a", 3.0)
