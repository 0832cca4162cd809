"""The commands convert, info and run: what they print, and one line for every mistake."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from zeroskip.cli import main
from zeroskip.cli.convert import parse_bytes
from zeroskip.runtime import Model


@pytest.fixture(scope="module")
def kws(data_root: Path) -> Path:
    return data_root / "models" / "mlperf_tiny_kws_int8.tflite"


@pytest.fixture(scope="module")
def container_path(kws: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "kws.zsk"
    assert main(["convert", str(kws), "-o", str(path)]) == 0
    return path


def fails(capsys: pytest.CaptureFixture[str], status: int, *argv: object) -> str:
    """Run a command that must fail; returns the one line it prints."""
    assert main([str(a) for a in argv]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"zeroskip {argv[0]}: "), captured.err
    return lines[0]


def test_convert_says_what_it_made(kws: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "kws.zsk"
    assert main(["convert", str(kws), "-o", str(out)]) == 0
    text = capsys.readouterr().out
    assert f"{out.stat().st_size:,} bytes" in text and "53,936" in text and "2,656,768 MACs" in text
    assert [p.name for p in tmp_path.iterdir()] == ["kws.zsk"]


def test_convert_options(kws: Path, container_path: Path, tmp_path: Path) -> None:
    stripped, fast, small = (tmp_path / f"{name}.zsk" for name in "abc")
    assert main(["convert", str(kws), "-o", str(stripped), "--strip"]) == 0
    assert main(["convert", str(kws), "-o", str(fast), "--prefer", "speed"]) == 0
    assert main(["convert", str(kws), "-o", str(small), "--prefer", "size"]) == 0
    assert stripped.stat().st_size < container_path.stat().st_size
    assert small.stat().st_size < fast.stat().st_size <= container_path.stat().st_size
    x = np.random.default_rng(0).integers(-128, 128, (3, 49, 10, 1), dtype=np.int8)
    expected = Model.load(fast).run(x)
    for path in (stripped, small, container_path):
        assert np.array_equal(Model.load(path).run(x), expected)


def test_info_as_a_table_and_as_json(container_path: Path, capsys) -> None:
    assert main(["info", str(container_path)]) == 0
    text = capsys.readouterr().out
    assert "conv2d_1" in text and "dense+raw" in text and "arena 16,776 bytes" in text
    assert main(["info", str(container_path), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["bytes"] == container_path.stat().st_size
    assert info["macs"] == sum(op["macs"] for op in info["ops"]) == 2_656_768
    weights = next(op["weights"] for op in info["ops"] if op["weights"] is not None)
    assert weights["entropy_bytes"] < weights["stream_bytes"]
    assert sum(info["sections"].values()) == info["bytes"]


def test_convert_within_a_boards_limits(kws: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "kws.zsk"
    convert = ["convert", str(kws), "-o", str(out), "--board", "nucleo-l4r5zi"]
    assert main([*convert, "--flash", "26900", "--ram", "17K"]) == 0
    assert out.stat().st_size <= 26_900
    before = out.read_bytes()
    assert main([*convert, "--latency-ms", "300"]) == 0
    slow = out.stat().st_size
    assert main(convert) == 0
    assert slow <= out.stat().st_size
    out.write_bytes(before)
    capsys.readouterr()
    for option, value, what in (
        ("--flash", "20K", "over the flash of 20,480 bytes by 5,"),
        ("--ram", "10KB", "over the RAM of 10,240 bytes by 6,"),
        ("--latency-ms", "1", "over the latency of 1 ms by 1"),
    ):
        line = fails(capsys, 2, *convert, option, value)
        assert what in line and "closest plan" in line and "estimated" in line
    assert out.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    assert "over the RAM" in fails(capsys, 2, *convert[:5], "microbit")


def test_limits_need_a_board_and_exclude_a_preference(kws: Path, tmp_path: Path, capsys) -> None:
    convert = ["convert", kws, "-o", tmp_path / "kws.zsk"]
    assert "--latency-ms needs --board" in fails(capsys, 2, *convert, "--latency-ms", "5")
    line = fails(capsys, 2, *convert, "--board", "microbit", "--prefer", "speed")
    assert "exclude" in line
    for text in ("-1", "K", "1.5K", "64M", "0", "6 4", "KB", "1KK"):
        with pytest.raises(argparse.ArgumentTypeError, match="not a number of bytes"):
            parse_bytes(text)
    assert [parse_bytes(text) for text in ("60000", "64K", "64kb")] == [60_000, 65_536, 65_536]


def test_info_says_what_else_could_have_been_chosen(container_path: Path, capsys) -> None:
    assert main(["info", str(container_path), "--json", "--board", "microbit"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert "cortex-m0 itself is not fitted" in info["cycles_provenance"]
    assert info["core"] == "cortex-m0" and info["board"]["ram_bytes"]["limit"] == 16_384
    choices = {op["name"]: op["choice"] for op in info["ops"] if op["weights"]}
    layers = {name.split(" [")[0] for name in choices}  # some run in parts
    assert len(layers) == 10 < len(choices)
    for op in info["ops"]:
        if op["weights"]:
            found = {a["codec"]: a for a in op["choice"]["alternatives"]}
            assert len(found) >= 12
            assert found[op["codec"]]["cycles"] == op["choice"]["cycles"]
            assert op["weights"]["entropy_ratio"] > 0.5
            assert op["choice"]["reason"].startswith(op["codec"])
    dense = [o for o in info["ops"] if o["op"] == "fully_connected"]
    assert any("by columns" in a["codec"] for o in dense for a in o["choice"]["alternatives"])
    assert main(["info", str(container_path), "--board", "microbit"]) == 0
    text = capsys.readouterr().out
    assert "smallest" in text and "fastest" in text and "kcycles" in text
    assert "of 16,384" in text and "of 262,144 on microbit" in text and "estimated" in text


def test_run_writes_what_the_model_gives(container_path: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (3, 49, 10, 1), dtype=np.int8)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "y.npy"
    arguments = ["run", str(container_path), "--input", str(tmp_path / "x.npy"), "--output"]
    assert main([*arguments, str(out)]) == 0
    model = Model.load(container_path)
    assert np.array_equal(np.load(out), model.run(x))
    assert main([*arguments, str(out), "--float"]) == 0
    assert np.array_equal(np.load(out), model.outputs[0].dequantize(model.run(x)))
    assert main([*arguments, str(tmp_path / "y.npz")]) == 0
    with np.load(tmp_path / "y.npz") as loaded:
        assert np.array_equal(loaded["output_0"], model.run(x))


def test_mistakes_are_one_line(kws: Path, container_path: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.zsk"
    capsys.readouterr()
    assert "No such file" in fails(capsys, 2, "convert", tmp_path / "no.tflite", "-o", out)
    text = tmp_path / "text.tflite"
    text.write_text("hello")
    fails(capsys, 2, "convert", text, "-o", out)
    assert "not a .tflite or .pt2" in fails(capsys, 2, "convert", container_path, "-o", out)
    np.save(tmp_path / "x.npy", np.zeros((1, 49, 11, 1), np.int8))
    x = tmp_path / "x.npy"
    assert "calibration data for" in fails(capsys, 2, "convert", kws, "-o", out, "--calibration", x)
    assert "brings its own" in fails(capsys, 2, "convert", kws, "-o", out, "--float32")
    fails(capsys, 2, "convert", kws, "-o", tmp_path / "no" / "out.zsk")
    assert not out.exists()
    fails(capsys, 2, "info", kws)
    fails(capsys, 2, "info", tmp_path / "missing.zsk")
    y = tmp_path / "y.npy"
    fails(capsys, 2, "run", kws, "--input", x, "--output", y)
    fails(capsys, 2, "run", container_path, "--input", text, "--output", y)
    np.save(tmp_path / "wrong.npy", np.zeros((1, 2), np.int8))
    assert "shape" in fails(
        capsys, 2, "run", container_path, "--input", tmp_path / "wrong.npy", "--output", y
    )
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    assert "plain arrays" in fails(
        capsys, 2, "run", container_path, "--input", tmp_path / "objects.npy", "--output", y
    )
    assert not y.exists()


def test_pytorch_models_need_calibration_or_float32(tmp_path: Path, capsys) -> None:
    model = tmp_path / "model.pt2"
    model.write_bytes(b"PK")
    line = fails(capsys, 2, "convert", model, "-o", tmp_path / "out.zsk")
    assert "calibration" in line and "float32" in line


@pytest.mark.parametrize("argv", [[], ["convert"], ["nonsense"], ["info"], ["run", "x"]])
def test_bad_usage_exits_with_2(argv: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


def test_debug_shows_the_traceback(kws: Path) -> None:
    from zeroskip.errors import FormatError

    with pytest.raises(FormatError):
        main(["info", str(kws), "--debug"])


@pytest.mark.parametrize(
    "argv", [["--version"], ["--help"], ["convert", "--help"], ["run", "--version"]]
)
def test_help_and_version(argv: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 0
    assert "zeroskip" in capsys.readouterr().out
