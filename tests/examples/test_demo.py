"""The demo runs to its end, and its table says what was computed."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
sys.path.insert(0, str(EXAMPLE))

import demo  # noqa: E402


@pytest.mark.slow
@pytest.mark.tool("ziglang", "unicorn")
def test_the_quick_demo_ends_with_identical_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "OUT", tmp_path)
    assert demo.main(["--quick", "--boards", "microbit", "nucleo-l4r5zi", "--digits", "5"]) == 0
    printed = capsys.readouterr().out
    rows = dict(line.split("  ", 1) for line in printed.splitlines() if "  " in line.strip())
    assert rows["output identical to the host's"].split() == ["yes", "yes"]
    size = (tmp_path / "digits.zsk").stat().st_size
    assert rows["container"].split() == [f"{size:,}", "bytes"]
    assert size < 8000
    assert "With a model of your own" in printed


def test_a_command_that_fails_ends_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.zeroskip_command("emulate", "missing.zsk", "--board", "microbit")
    assert ended.value.code == 2
    assert "missing.zsk" in capsys.readouterr().err


def test_dense_bytes_count_weights_and_biases() -> None:
    float_bytes, int8_bytes = demo.dense_bytes(demo.build_network())
    weights, biases = 288 + 9216 + 18432 + 2560, 32 + 32 + 64 + 10
    assert float_bytes == 4 * (weights + biases)
    assert int8_bytes == weights + 4 * biases
