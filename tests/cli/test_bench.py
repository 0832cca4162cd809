"""zeroskip bench: single layers on an emulated board."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from zeroskip import bench, boards
from zeroskip.cli import bench as command
from zeroskip.cli import main
from zeroskip.emulation.layers import timing_of
from zeroskip.errors import InputError

TOOLS = pytest.mark.tool("arm-none-eabi-gcc", "qemu-system-arm")


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = bench.SHAPES[2]
    small = replace(conv, weights=(8, 16, 1, 1), inputs=(16, 5, 5), active=(1.0, 0.5))
    dense = bench.SHAPES[4]
    fc = replace(dense, weights=(30, 64), inputs=(64,), active=(1.0,))
    monkeypatch.setattr(bench, "SPARSITIES", (0.0, 0.9))
    monkeypatch.setattr(bench.run, "__defaults__", ((small, fc),))


@TOOLS
def test_sparse_layers_take_fewer_cycles(small_grid: None, capsys) -> None:
    assert main(["bench", "--board", "mps2-an386", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["provenance"] == "estimated" and "Cortex-M4" in found["timing_model"]
    results = [bench.Result(**layer) for layer in found["layers"]]
    assert len(results) == 12 and {r.dense for r in results} == {True, False}
    conv = results[0].layer
    full = {(r.sparsity, r.dense): r for r in results if r.layer == conv and r.active == 1.0}
    assert full[0.0, True].executed == full[0.0, True].macs == 8 * 16 * 25
    assert full[0.9, False].cycles < full[0.9, True].cycles
    assert full[0.9, False].executed < 0.2 * full[0.9, False].macs
    half = [r for r in results if r.layer == conv and r.active == 0.5 and not r.dense]
    assert all(r.executed < full[r.sparsity, False].executed for r in half)
    at = bench.break_even(results, conv, 1.0)
    assert at is not None and 0 <= at < 0.9
    assert bench.break_even([r for r in results if r.dense], conv, 1.0) is None


def test_cells_of_a_row() -> None:
    result = bench.Result("conv", 0.9, 0.5, "gap4+raw", 1234, 5000, 1000, 0)
    cells = ("conv", "90 %", "50 %", "gap4+raw", "1,234", "5,000", "5.00", "-")
    assert command.row(result) == cells


def test_boards_that_cannot_be_priced_are_refused(tmp_path: Path, capsys) -> None:
    for board, words in (
        ("nowhere", "no board 'nowhere'"),
        (str(tmp_path), "board.toml"),
    ):
        assert main(["bench", "--board", board]) == 2
        line = capsys.readouterr().err
        assert line.startswith("zeroskip bench: ") and words in line and line.count("\n") == 1


def test_a_core_without_a_timing_model_is_refused() -> None:
    board = boards.load("mps2-an505")
    with pytest.raises(InputError, match="no timing model for cortex-m33"):
        timing_of(replace(board, core=replace(board.core, timing=None)))
