"""The example to copy runs as it is, and writes what it says."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import zeroskip

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "your_model.py"


@pytest.mark.tool("ziglang")
def test_the_example_converts_checks_and_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "microbit"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "microbit: flash" in printed
    model = zeroskip.Model.load(tmp_path / "model.zsk")
    assert model.inputs[0].shape == (3, 32, 32)
    assert model.outputs[0].shape == (10,)
    assert (tmp_path / "firmware.elf").read_bytes()[:4] == b"\x7fELF"
    error, largest = (
        float(word.strip("()\n")) for word in printed.split() if word.strip("()\n").startswith("0.")
    )
    assert error < 0.05 * largest
