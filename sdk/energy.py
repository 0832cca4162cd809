"""Energy per inference: supply voltage x current while computing x time, plus sleep between.

A microcontroller's current depends on its clock, where code runs from and what it computes, so a
figure is worth what its source is. Boards grade theirs (boards/description.py, `Power`), and each
grade implies an interval around the energy:

* A, measured on a machine-learning workload: -15 to +15 %, the spread of the MLPerf Tiny
  results of one microcontroller (STM32L4R5 at 120 MHz: 21.5 to 29 mA whatever the software);
* B, the datasheet's current for a benchmark at that clock: -10 to +40 %;
* C, a headline figure per MHz: -0 to +150 %; the STM32L4R5 draws 1.7 to 2.2 times its headline, the
  STM32U575 about 2.4 times.

The intervals cover the current, not the error of an estimated latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from zeroskip.boards import Board, Power
from zeroskip.errors import InputError


@dataclass(frozen=True)
class Grade:
    """What a class of currents is, and the factors that bound the energy."""

    meaning: str
    low: float
    high: float


GRADES: Final[Mapping[str, Grade]] = MappingProxyType(
    {
        "A": Grade("measured on a machine-learning workload", 0.85, 1.15),
        "B": Grade("datasheet's benchmark current", 0.9, 1.4),
        "C": Grade("headline figure per MHz", 1.0, 2.5),
    }
)


@dataclass(frozen=True)
class Interval:
    """A typical value and the bounds that its source implies."""

    typical: float
    low: float
    high: float


@dataclass(frozen=True)
class Energy:
    """Of one inference, in microjoules, with all that the figure rests on."""

    microjoules: Interval
    latency_ms: float
    clock_hz: int
    power: Power

    @property
    def conditions(self) -> str:
        """Voltage, clock, current and class: what belongs beside the figure."""
        p = self.power
        return (
            f"{p.volts:g} V, {self.clock_hz / 1e6:g} MHz, {p.active_ma:g} mA of class {p.grade}: "
            f"{GRADES[p.grade].meaning}"
        )


@dataclass(frozen=True)
class DutyCycle:
    """So many inferences per second, asleep between: average power in milliwatts, and hours of
    a battery of `battery_mah` at the board's voltage (None without one), self-discharge aside."""

    rate_hz: float
    busy: float
    milliwatts: Interval
    battery_mah: float | None
    battery_hours: Interval | None


def per_inference(board: Board, latency_ms: float) -> Energy | None:
    """The energy of one inference that takes `latency_ms` at the board's highest clock, or None
    for a board that does not describe its current."""
    power = board.power
    if power is None:
        return None
    typical = power.volts * power.active_ma * latency_ms  # V x mA x ms = uJ
    return Energy(_interval(typical, power), latency_ms, board.clock.hz, power)


def duty_cycle(
    board: Board, latency_ms: float, rate_hz: float, battery_mah: float | None = None
) -> DutyCycle:
    """What `rate_hz` inferences per second draw. Raises InputError for a rate that the latency
    does not allow, one not above 0, or a board that does not describe its current."""
    power = board.power
    if power is None:
        raise InputError(
            f"{board.name} does not describe its current: no power table in its board.toml"
        )
    if not 0 < rate_hz < float("inf"):
        raise InputError(f"a rate of {rate_hz:g} inferences per second must be above 0")
    if battery_mah is not None and not 0 < battery_mah < float("inf"):
        raise InputError(f"a battery of {battery_mah:g} mAh must be above 0")
    busy = latency_ms * 1e-3 * rate_hz
    if busy > 1:
        raise InputError(
            f"{rate_hz:g} inferences per second need {busy:.3g} times the time there is: one takes "
            f"{latency_ms:.4g} ms on {board.name}, which allows {1e3 / latency_ms:.4g}"
        )
    active = _interval(power.volts * power.active_ma * busy, power)
    asleep = power.volts * power.sleep_ua * 1e-3 * (1 - busy)
    milliwatts = Interval(active.typical + asleep, active.low + asleep, active.high + asleep)
    hours = None
    if battery_mah is not None:
        stored = battery_mah * power.volts
        hours = Interval(
            *(stored / w for w in (milliwatts.typical, milliwatts.high, milliwatts.low))
        )
    return DutyCycle(rate_hz, busy, milliwatts, battery_mah, hours)


def _interval(typical: float, power: Power) -> Interval:
    grade = GRADES[power.grade]
    return Interval(typical, typical * grade.low, typical * grade.high)
