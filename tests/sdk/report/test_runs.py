"""Records of runs: their files, what is refused, and how they are made."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from device_models import small_model
from hypothesis import given
from hypothesis import strategies as st
from report_runs import layer, run, saved

from zeroskip import boards
from zeroskip.converters.container import describe
from zeroskip.emulation import emulate
from zeroskip.errors import InputError
from zeroskip.firmware import Sizes
from zeroskip.report import Run, load, run_from_emulation, run_from_measurement, runs, to_json
from zeroskip.report.runs import Spread

Change = Callable[[dict[str, Any]], object]


def test_a_file_gives_the_record_back(tmp_path: Path) -> None:
    record = run()
    assert load(saved(tmp_path, "run", record)) == record
    assert to_json(record) == to_json(run())


def test_unknown_keys_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(runs.as_json(run()) | {"from_a_later_version": [1]}))
    assert load(path) == run()


def test_layers_share_time_and_energy() -> None:
    record = run()
    first, second = record.layers
    assert record.layer_ms(first) == pytest.approx(1.65)
    assert record.layer_microjoules(first) == pytest.approx(132 * 1.65 / 2.2)
    assert record.layer_ms(second) == pytest.approx(0.55)
    assert first.sparsity == 0.9 and first.skipped == pytest.approx(0.925)
    assert layer("x", 1, weights=0, zeros=0, macs=0).sparsity is None


def _set(*path: Any) -> Change:
    *way, last, value = path

    def change(record: dict[str, Any]) -> None:
        place: Any = record
        for key in way:
            place = place[key]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema", 2), "schema 2: this zeroskip reads 1"),
        (_set("schema", "x" * 1000), "this zeroskip reads 1"),
        (lambda r: r.pop("schema"), "not the JSON of a run"),
        (lambda r: r.pop("layers"), "layers"),
        (_set("layers", 0, "cycles", "many"), r"Expected `int \| null`.*layers"),
        (_set("layers", 0, "cycles", -1), "cycles is -1"),
        (_set("layers", 0, "cycles", 1 << 54), "0 to 2\\^53"),
        (_set("layers", 0, "zeros", 1001), "more zeros than weights"),
        (_set("layers", 0, "name", None), "layers"),
        (_set("latency_ms", float("nan")), "run.json"),
        (_set("latency_ms", float("inf")), "run.json"),
        (_set("latency_ms", 1e300), "latency_ms is 1e\\+300"),
        (_set("clock_hz", 0), "clock_hz is 0"),
        (_set("limits", "ram", 0), "more than 0 bytes"),
        (_set("provenance", "guessed"), "guessed"),
        (_set("sources", "energy", " "), "no provenance for energy"),
        (lambda r: r["sources"].pop("latency_ms"), "no provenance for latency_ms"),
        (_set("model", "name", "n" * 5000), "5,000 characters"),
        (_set("board", "\ud800"), "run.json"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_one_line(tmp_path: Path, change: Change, message: str) -> None:
    record = json.loads(to_json(run()))
    change(record)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "run.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"schema": 1}', b'{"schema": 1e999}', b"[" * 100_000,
     b'{"schema": ' + b"9" * 10_000 + b"}"],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_json_of_a_run_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_long_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, "run", run())
    monkeypatch.setattr(runs, "MAX_FILE_BYTES", 100)
    with pytest.raises(InputError, match="over the limit of 100"):
        load(path)


@pytest.mark.parametrize("name", sorted(runs.figures(run())))
def test_every_figure_needs_its_provenance(name: str) -> None:
    assert runs.figures(run())[name], "the record has every figure"
    with pytest.raises(InputError, match=f"no provenance for {name}"):
        run(sources={k: v for k, v in run().sources.items() if k != name})


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())


@given(data=st.data())
def test_a_changed_file_is_a_record_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any one value of a record replaced by any other."""
    record = json.loads(to_json(run()))
    place: Any = record
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(
        st.one_of(SCALARS, st.lists(SCALARS), st.dictionaries(st.text(), SCALARS))
    )
    path = tmp_path_factory.mktemp("changed") / "run.json"
    path.write_text(json.dumps(record))
    try:
        assert isinstance(load(path), Run)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.tool("arm-none-eabi-gcc", "capstone")
def test_a_record_of_an_emulated_run(tmp_path: Path) -> None:
    blob, inputs, _ = small_model(0)
    result = emulate(blob, boards.load("nucleo-l4r5zi"), [inputs])
    record = run_from_emulation(result, blob, "small.zsk", "2")
    d = describe(blob)
    assert load(saved(tmp_path, "run", record)) == record
    assert (record.provenance, record.samples) == ("estimated", len(inputs))
    assert record.model.bytes == len(blob) and len(record.model.sha256) == 64
    assert [a.name for a in record.layers] == [op.name for op in d.ops]
    for a, op in zip(record.layers, d.ops, strict=True):
        if op.weights is not None:
            assert (a.weights, a.weights - a.zeros) == (op.weights.size, op.weights.nonzeros)
    assert record.latency_ms == result.latency_ms
    assert record.energy is not None and record.energy.microjoules.low is not None
    power = result.board.power
    assert power is not None and power.source in record.sources["energy"]
    assert (
        "120 MHz" in record.sources["energy"] and f"{power.volts:g} V" in record.sources["energy"]
    )
    assert record.sources["cycles"].startswith("estimated by the model additive Cortex-M4")


def _measurement(**changed: Any) -> Run:
    blob = small_model(0)[0]
    arguments: dict[str, Any] = {
        "clock_hz": 4_000_000,
        "repetitions": 20,
        "cycles": 8000,
        "microseconds": None,
        "op_cycles": [100] * len(describe(blob).ops),
        "op_macs": [70] * len(describe(blob).ops),
        "microjoules": Spread(typical=50.0, low=49.0, high=52.0),
        "volts": 1.8,
        "instrument": "LPM01A",
        "sources": {
            "cycles": "counter",
            "latency_ms": "counter",
            "energy": "LPM01A",
            "macs_executed": "firmware",
        },
        "sizes": Sizes(1000, 2000, 300, 20, 4096, 16),
    }
    board = boards.load("nucleo-l4r5zi")
    return run_from_measurement(blob, "small.zsk", board, **arguments | changed)


def test_a_record_of_a_measurement(tmp_path: Path) -> None:
    record = _measurement()
    assert load(saved(tmp_path, "run", record)) == record
    assert record.provenance == "measured" and record.latency_ms == pytest.approx(2.0)
    assert record.energy is not None and record.energy.grade is None
    assert (record.energy.microjoules.typical, record.energy.volts) == (50.0, 1.8)
    assert record.flash_bytes is not None and record.flash_bytes.total == 3000
    assert record.ram_bytes is not None and record.ram_bytes.total == 300 + 20 + 4096 + 16
    assert {(a.cycles, a.macs_executed) for a in record.layers} == {(100, 70)}
    assert record.energy.microjoules == Spread(typical=50.0, low=49.0, high=52.0)
    assert _measurement(microseconds=1990.0).latency_ms == pytest.approx(1.99)
    bare = _measurement(microjoules=None, volts=None, op_cycles=None, op_macs=None, sizes=None)
    assert bare.energy is None and bare.flash_bytes is None
    assert {(a.cycles, a.macs_executed) for a in bare.layers} == {(None, None)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"volts": None}, "needs the voltage"),
        ({"op_cycles": [1]}, "1 counts for"),
        ({"sources": {"cycles": "x", "latency_ms": "x", "macs_executed": "x"}}, "for energy"),
        ({"cycles": -1}, "cycles is -1"),
        ({"op_macs": [1]}, "1 counts for"),
    ],
)
def test_a_measurement_that_lacks_something(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _measurement(**changed)


def test_layers_beyond_the_limit_are_refused() -> None:
    with pytest.raises(InputError, match="10,001 layers"):
        replace(run(), layers=(layer("x", 1),) * 10_001)
