"""Energy and average power against sums by hand."""

from dataclasses import replace

import pytest

from zeroskip import boards
from zeroskip.boards import Board, Power
from zeroskip.energy import GRADES, duty_cycle, per_inference
from zeroskip.errors import InputError

POWER = Power(3.0, 20.0, "B", "a datasheet", 10.0, "stop", "the same")


def board(grade: str = "B") -> Board:
    return replace(boards.load("nucleo-l4r5zi"), power=replace(POWER, grade=grade))


def test_energy_is_voltage_times_current_times_time() -> None:
    energy = per_inference(board(), 50.0)
    assert energy is not None
    assert energy.microjoules.typical == pytest.approx(3.0 * 20e-3 * 50e-3 * 1e6)
    assert energy.microjoules.low == pytest.approx(2700)
    assert energy.microjoules.high == pytest.approx(4200)
    assert energy.conditions.startswith("3 V, 120 MHz, 20 mA of class B: ")
    assert per_inference(replace(board(), power=None), 50.0) is None


def test_worse_sources_imply_wider_intervals() -> None:
    widths = [GRADES[g].high - GRADES[g].low for g in "ABC"]
    assert widths == sorted(widths) and all(GRADES[g].low <= 1 <= GRADES[g].high for g in "ABC")


def test_a_duty_cycle_adds_sleep() -> None:
    duty = duty_cycle(board(), 50.0, 2.0, battery_mah=200.0)
    assert duty.busy == pytest.approx(0.1)
    typical = 0.1 * 3.0 * 20.0 + 0.9 * 3.0 * 0.010
    assert duty.milliwatts.typical == pytest.approx(typical)
    assert duty.milliwatts.low == pytest.approx(0.9 * 6.0 + 0.027)
    assert duty.battery_hours is not None
    assert duty.battery_hours.typical == pytest.approx(600 / typical)
    assert duty.battery_hours.low < duty.battery_hours.typical < duty.battery_hours.high


@pytest.mark.parametrize(
    ("rate", "battery", "message"),
    [(0.0, None, "above 0"), (-1.0, None, "above 0"), (float("nan"), None, "above 0"),
     (21.0, None, "which allows 20"), (1.0, 0.0, "battery")],
)  # fmt: skip
def test_what_cannot_be_is_refused(rate: float, battery: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        duty_cycle(board(), 50.0, rate, battery)


def test_a_board_without_current_has_no_duty_cycle() -> None:
    with pytest.raises(InputError, match="does not describe its current"):
        duty_cycle(replace(board(), power=None), 50.0, 1.0)
