"""zeroskip build, emulate, boards and doctor, as a user calls them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from device_models import small_model

from zeroskip import boards, cli, elf
from zeroskip.cli import doctor
from zeroskip.cli import emulate as emulate_command
from zeroskip.converters.container import describe
from zeroskip.report import records
from zeroskip.runtime import Model

KEYS = {
    "board", "core", "clock_hz", "cycles", "instructions", "latency_ms", "energy",
    "wait_cycles", "flash_model", "functions", "duty_cycle", "provenance", "flash_bytes",
    "ram_bytes", "matches_host", "layers",
}  # fmt: skip
LAYER_KEYS = {
    "name", "op", "codec", "bytes", "macs", "macs_nonzero_weight", "macs_executed", "cycles",
}  # fmt: skip

needs_gcc = pytest.mark.tool("arm-none-eabi-gcc")
needs_qemu = pytest.mark.tool("qemu-system-arm", "cc", "capstone")


@pytest.fixture
def container(tmp_path: Path) -> Path:
    path = tmp_path / "model.zsk"
    path.write_bytes(small_model(0)[0])
    return path


def test_boards(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["boards"]) == 0
    text = capsys.readouterr().out
    for name in boards.names():
        assert name in text
    assert cli.main(["boards", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [b["name"] for b in listed] == boards.names()
    assert all(b["flash"]["size"] and b["flash"]["source"] for b in listed)
    assert cli.main(["boards", "nucleo-l4r5zi"]) == 0
    text = capsys.readouterr().out
    assert "0x08000000" in text and "2,097,152" in text and "DS12023" in text


@needs_gcc
@needs_qemu
def test_emulate_with_a_rate_and_functions(
    container: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["emulate", str(container), "--board", "nucleo-l4r5zi"]
    more = ["--rate", "10", "--battery", "220", "--functions", "3"]
    assert cli.main([*arguments, *more]) == 0
    text = capsys.readouterr().out
    assert "average power" in text and "220 mAh at 3 V" in text and "class A" in text
    assert len(text[text.index("\nfunction") :].split("\n\n")[0].strip().splitlines()) == 2 + 3
    assert cli.main([*arguments, "--battery", "220"]) == 2
    assert "--battery needs --rate" in capsys.readouterr().err


@pytest.mark.parametrize("compiler", [pytest.param("gcc", marks=needs_gcc), "zig"])
def test_build(
    container: Path, tmp_path: Path, compiler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if compiler == "zig":
        pytest.importorskip("ziglang")
    out = tmp_path / "firmware.elf"
    arguments = ["build", str(container), "--board", "microbit", "-o", str(out)]
    assert cli.main([*arguments, "--compiler", compiler]) == 0
    text = capsys.readouterr().out
    assert "of 262,144 bytes" in text and "of 16,384 bytes" in text and compiler in text
    assert elf.parse(out.read_bytes()).symbol("main")


@needs_gcc
@needs_qemu
def test_emulate_json(container: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blob, inputs, _ = small_model(0)
    np.save(tmp_path / "x.npy", inputs)
    arguments = ["emulate", str(container), "--board", "nucleo-l4r5zi", "--json"]
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert cli.main([*arguments, *files, "--compiler", "gcc", "--emulator", "qemu"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= KEYS
    assert np.load(tmp_path / "y.npy").tobytes() == np.asarray(Model(blob).run(inputs)).tobytes()
    d = describe(blob)
    assert result["board"] == "nucleo-l4r5zi" and result["core"] == "cortex-m4"
    assert result["clock_hz"] == 120_000_000 and result["samples"] == len(inputs)
    assert result["wait_cycles"] > 0 and "5 wait states" in result["flash_model"]
    in_all = result["cycles_with_waits"]
    assert in_all == result["cycles"] + result["wait_cycles"] and result["flash_known_error"]
    assert result["latency_ms"] == pytest.approx(in_all / 120e3)
    energy = result["energy"]
    assert energy["microjoules"]["typical"] == pytest.approx(3 * 25 * result["latency_ms"])
    assert (
        energy["grade"] == result["energy_class"] == "A"
        and energy["source"]
        and energy["volts"] == 3
    )
    assert result["provenance"] == "estimated" and "Cortex-M4" in result["timing_model"]
    assert result["known_error"]
    assert result["duty_cycle"] is None
    assert result["matches_host"] is True
    assert result["ram_bytes"]["arena"] == d.arena_bytes
    assert 0 <= result["ram_bytes"]["scratch"] < d.arena_bytes
    assert 0 < result["ram_bytes"]["stack"] < result["ram_bytes"]["stack_reserved"]
    assert result["flash_bytes"]["model"] >= len(blob)
    macs = Model(blob).run_counted(inputs)[1]
    for layer, op, executed in zip(result["layers"], d.ops, macs, strict=True):
        assert layer.keys() >= LAYER_KEYS
        assert (layer["name"], layer["op"], layer["codec"]) == (op.name, op.op, op.codec)
        assert (layer["bytes"], layer["macs"]) == (op.bytes, op.macs)
        assert layer["macs_nonzero_weight"] == op.macs_nonzero_weight
        assert layer["macs_executed"] == round(executed / len(inputs))
        assert layer["cycles"] >= layer["instructions"] > 0
    assert sum(layer["cycles"] for layer in result["layers"]) <= result["cycles"]


@needs_gcc
@pytest.mark.parametrize("board", ["microbit", "mps2-an505"])
def test_emulate_text_with_a_random_input(
    board: str, container: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["emulate", str(container), "--board", board]
    assert cli.main(arguments) == 0
    first = capsys.readouterr().out
    assert "identical to the host's" in first and "one inference" in first
    assert "latency" in first and "ms (estimated)" in first
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == first


@needs_gcc
def test_a_mismatch_exits_with_1(
    container: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    original = emulate_command.emulate
    monkeypatch.setattr(
        emulate_command,
        "emulate",
        lambda *a, **k: dataclasses.replace(original(*a, **k), matches_host=False),
    )
    assert cli.main(["emulate", str(container), "--board", "mps2-an386"]) == 1
    captured = capsys.readouterr()
    assert "DIFFERENT FROM" in captured.out and "differ from the host's" in captured.err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--board", "arduino"], 2, "no board 'arduino'"),
        (["--board", "mps2-an386", "--input", "nothing.npy"], 2, "nothing.npy"),
        (["--board", "mps2-an386", "--timeout", "0"], 2, "must be above 0"),
    ],
)
def test_errors_are_one_line(
    container: Path,
    arguments: list[str],
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["emulate", str(container), *arguments]) == status
    captured = capsys.readouterr()
    assert text in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_what_is_no_container(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.zsk"
    bad.write_bytes(small_model(0)[0][:-5])
    out = tmp_path / "f.elf"
    assert cli.main(["build", str(bad), "--board", "microbit", "-o", str(out)]) == 2
    assert "bad.zsk" in capsys.readouterr().err
    assert cli.main(["emulate", str(bad), "--board", "microbit"]) == 2
    assert os.listdir(tmp_path) == ["bad.zsk"]


def test_scratch_is_the_arena_without_activations() -> None:
    for number in range(10):
        d = describe(small_model(number)[0])
        covered = set()
        for t in [*d.inputs, *d.outputs, *(op.output for op in d.ops)]:
            if not t.constant:
                size = int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize
                covered |= set(range(t.location, t.location + size))
        assert records.scratch_bytes(d) == d.arena_bytes - len(covered)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "the core works" in text and np.__version__ in text and "MISSING" not in text


def test_doctor_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_program", lambda name: None)
    monkeypatch.setattr(doctor, "host_compiler", lambda: None)
    original = doctor._package
    monkeypatch.setattr(
        doctor, "_package", lambda n: None if n in ("ziglang", "unicorn") else original(n)
    )
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "zeroskip build will not work: it needs arm-none-eabi-gcc or ziglang" in text
    assert "zeroskip emulate will not work: it needs qemu-system-arm or unicorn" in text
    assert "apt install gcc-arm-none-eabi" in text and "the core works" in text


def test_doctor_fails_without_the_core(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> object:
        raise ImportError("no extension")

    monkeypatch.setattr(doctor, "import_module", broken)
    assert cli.main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "the core is broken: C runtime" in captured.out and "no extension" in captured.err
