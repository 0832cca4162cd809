"""zeroskip report, as a user calls it."""

import json
import sys
from pathlib import Path

import pytest
from device_models import small_model
from report_runs import measured, run, saved

from zeroskip import cli
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
