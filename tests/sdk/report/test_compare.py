"""Estimates beside measurements, labels, and runs as CSV and JSON."""

import csv
import io
import json
from dataclasses import replace

import pytest
from report_runs import layer, measured, run

from zeroskip.errors import InputError
from zeroskip.report import tables
from zeroskip.report.compare import by_model, comparisons, distinct, labels
from zeroskip.report.runs import ModelFile, Run, Spread


def _net(name: str, sha256: str) -> ModelFile:
    return ModelFile(name=name, sha256=sha256, bytes=1100)


def _rows(runs: list[Run]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables.to_csv(runs).decode(), newline="")))


def test_an_error_is_estimated_over_measured_less_one() -> None:
    found = {(c.layer, c.figure): c for c in comparisons([run(), measured()])}
    assert found.keys() == {
        (None, "cycles"), (None, "latency_ms"), (None, "energy"),
        ("first", "cycles"), ("second", "cycles"),
    }  # fmt: skip
    assert found[None, "cycles"].estimated == 220_000  # with the waits: the clocks are equal
    assert found[None, "cycles"].waits and not found[None, "energy"].waits
    assert found[None, "cycles"].error == pytest.approx(220 / 250 - 1)
    assert found[None, "latency_ms"].error == pytest.approx(-0.12)
    assert found[None, "energy"].error == pytest.approx(132 / 150 - 1)
    assert found["first", "cycles"].error == pytest.approx(-0.2)
    assert [c.note for c in found.values() if c.note] == ["within the bounds"]


def test_a_measured_energy_outside_the_bounds_is_said() -> None:
    energy = measured().energy
    assert energy is not None
    low = replace(energy, microjoules=Spread(typical=100.0))
    notes = [c.note for c in comparisons([run(), measured(energy=low)]) if c.figure == "energy"]
    assert notes == ["OUTSIDE the bounds"]


def test_at_another_clock_only_cycles_without_waits_compare() -> None:
    found = comparisons([run(), measured(clock_hz=4_000_000)])
    assert {c.figure for c in found} == {"cycles"}
    assert found[0].estimated == 200_000 and not found[0].waits
    assert "measured at 4 MHz" in found[0].note


def test_another_voltage_is_said() -> None:
    energy = measured().energy
    assert energy is not None
    found = comparisons([run(), measured(energy=replace(energy, volts=1.8))])
    (note,) = [c.note for c in found if c.figure == "energy"]
    assert note == "measured at 1.8 V, estimated for 3 V"


def test_other_boards_and_models_do_not_compare() -> None:
    assert not comparisons([run(), measured(board="board-b")])
    assert not comparisons([run(), measured(model=_net("net.zsk", "cd" * 32))])
    assert not comparisons([run(), run(samples=2)])


def test_a_measurement_of_zero_has_no_error() -> None:
    found = [c for c in comparisons([run(), measured(cycles=0)]) if c.layer is None]
    assert found[0].figure == "cycles" and found[0].error is None


def test_one_container_has_one_list_of_layers() -> None:
    other = run(board="board-b", layers=(layer("other", 1), layer("second", 1)))
    with pytest.raises(InputError, match="same container and other layers"):
        by_model([run(), other])
    assert len(by_model([run(), replace(other, model=_net("net.zsk", "cd" * 32))])) == 2


def test_labels_tell_runs_apart() -> None:
    assert labels([run(), run(board="b")]) == ["board-a", "b"]
    assert labels([run(), measured()]) == ["board-a, estimated", "board-a, measured"]
    assert labels([run(), run(clock_hz=4_000_000)]) == [
        "board-a, estimated, 100 MHz", "board-a, estimated, 4 MHz",
    ]  # fmt: skip
    assert labels([run(), run(optimize="3")])[1] == "board-a, estimated, 100 MHz, gcc -O3"
    same = labels([run(), run(samples=2), run(samples=3)])
    assert len(set(same)) == 3 and same[2].endswith("(3)")


def test_equal_records_count_once() -> None:
    assert distinct([run(), measured(), run()]) == [run(), measured()]


def test_csv_has_a_row_per_layer_and_totals() -> None:
    rows = _rows([run(), measured()])
    assert [row["layer"] for row in rows] == ["0", "1", "total"] * 2
    assert tuple(rows[0]) == tables.COLUMNS
    first, _, total = rows[:3]
    assert (first["name"], first["cycles"], first["zeros"]) == ("first", "150000", "900")
    assert float(first["latency_ms"]) == pytest.approx(1.65)
    assert total["bytes"] == "1100" and total["macs_executed"] == "1200"
    assert (total["energy_uj"], total["energy_low_uj"], total["volts"]) == ("132.0", "118.8", "3.0")
    assert total["energy_class"] == "B" and rows[5]["energy_class"] == "measured"
    assert (total["flash_bytes"], total["ram_limit"]) == ("10000", "10000")
    assert rows[3]["macs_executed"] == "" and rows[5]["macs_executed"] == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1"])
def test_no_cell_of_the_csv_is_a_formula(name: str) -> None:
    record = run(layers=(layer(name, 1),), model=_net(name, "ab" * 32))
    for row in _rows([record]):
        assert row["model"] == f"'{name}"
    assert _rows([record])[0]["name"] == f"'{name}"


def test_json_has_the_records_and_the_errors() -> None:
    report = json.loads(tables.to_json([run(), measured()]))
    assert report["runs"][0]["sources"] == run().sources
    errors = {c["figure"]: c["error"] for c in report["comparisons"] if c["layer"] is None}
    assert errors["latency_ms"] == pytest.approx(-0.12)
