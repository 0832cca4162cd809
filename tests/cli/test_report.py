"""zeroskip report, as a user calls it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from device_models import small_model
from report_runs import measured, run, saved

from zeroskip import boards, cli
from zeroskip.cli import measure as measure_command
from zeroskip.converters.container import describe
from zeroskip.measure import Latency, Measurement
from zeroskip.measure.power import EnergyRun
from zeroskip.measure.protocol import Info, OpCycles
from zeroskip.report import load

needs_gcc = pytest.mark.tool("arm-none-eabi-gcc", "capstone")


@needs_gcc
def test_from_emulated_runs_to_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    container = tmp_path / "small.zsk"
    container.write_bytes(small_model(0)[0])
    files = []
    for board in ("nucleo-l4r5zi", "microbit"):
        files.append(str(tmp_path / f"{board}.json"))
        arguments = ["emulate", str(container), "--board", board, "--save", files[-1], "--json"]
        assert cli.main(arguments) == 0
        printed = json.loads(capsys.readouterr().out)
        record = json.loads(Path(files[-1]).read_text())
        assert printed | record == printed  # the file is what --json prints, but for its extras
        assert load(Path(files[-1])).board == board
    out = tmp_path / "out"
    out.mkdir()
    outputs = [
        "-o",
        str(out / "r.html"),
        "--json",
        str(out / "r.json"),
        "--csv",
        str(out / "r.csv"),
    ]
    assert cli.main(["report", *files, *outputs]) == 0
    text = capsys.readouterr().out
    assert text.count("2 runs") == 3 and "r.html" in text
    assert (out / "r.html").read_text().startswith("<!doctype html>")
    assert len(json.loads((out / "r.json").read_text())["runs"]) == 2
    assert (out / "r.csv").read_text().startswith("model,sha256,board")


def test_a_bad_run_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = saved(tmp_path, "good", run()), tmp_path / "bad.json"
    bad.write_text('{"schema": 1, "latency_ms": NaN}')
    outputs = ["-o", str(tmp_path / "r.html"), "--csv", str(tmp_path / "r.csv")]
    assert cli.main(["report", str(good), str(bad), *outputs]) == 2
    captured = capsys.readouterr()
    assert "bad.json: " in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.json", "good.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to write"),
        (["-o", "run.json"], "would replace one of the runs"),
        (["-o", "x", "--csv", "./x"], "two outputs have the same name"),
        (["-o", "nowhere/r.html"], "there is no folder"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, "run", measured())
    before = path.read_bytes()
    assert cli.main(["report", "run.json", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"] and path.read_bytes() == before


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path / "no.json"), "-o", str(tmp_path / "r.html")]) == 2
    assert "no.json: No such file" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path), "-o", str(tmp_path / "r.html")]) == 2
    assert "Is a directory" in capsys.readouterr().err


def test_without_msgspec_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    path = saved(tmp_path, "run", run())
    assert cli.main(["report", str(path), "--csv", str(tmp_path / "r.csv")]) == 1
    assert "pip install 'zeroskip[report]'" in capsys.readouterr().err


def test_a_measurement_is_a_record(tmp_path: Path) -> None:
    blob = small_model(0)[0]
    count = len(describe(blob).ops)
    info = Info("nucleo-l4r5zi", "cortex-m4", 4_000_000, 0, len(blob), 1, True, 700)
    ops = tuple(OpCycles(i, 100 + i, 10 + i) for i in range(count))
    latency = Latency(5, 10, 1234.5, 308.625, 309.0, 1200.0, 1300.0, ops)
    energy = EnergyRun(40.0, 3.0, 0.013, 39.0, 41.5, 5, 10, "ppk2", 3.3)
    board = boards.load("nucleo-l4r5zi")
    done = Measurement(
        "measured", info, latency, True, None, energy, "measured by the cycle counter"
    )
    record = measure_command.record(done, blob, "small.zsk", board)
    assert load(saved(tmp_path, "run", record)) == record
    assert (record.provenance, record.clock_hz, record.samples) == ("measured", 4_000_000, 50)
    assert record.latency_ms == pytest.approx(0.308625)
    assert [(a.cycles, a.macs_executed) for a in record.layers] == [
        (100 + i, 10 + i) for i in range(count)
    ]
    assert record.energy is not None and record.energy.volts == 3.3
    assert (record.energy.microjoules.low, record.energy.microjoules.high) == (39.0, 41.5)
    assert "ppk2 at 3.3 V and 4 MHz" in record.sources["energy"]
    without = replace(done, energy=None)
    assert measure_command.record(without, blob, "small.zsk", board).energy is None


def test_an_emulated_board_is_not_recorded_as_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    container = tmp_path / "small.zsk"
    container.write_bytes(small_model(0)[0])
    arguments = ["measure", str(container), "--board", "mps2-an386", "--port", "/dev/nothing"]
    assert cli.main([*arguments, "--save", str(tmp_path / "run.json")]) == 2
    assert "is emulated" in capsys.readouterr().err
    assert not (tmp_path / "run.json").exists()
