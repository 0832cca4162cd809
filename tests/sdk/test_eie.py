"""The simulated EIE: the paper's encodings, a plain cycle-by-cycle simulation, its Table IV."""

import json
import re
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip import cli
from zeroskip.accelerators import run_container
from zeroskip.accelerators.eie import encode, multiply, run_layer, simulate
from zeroskip.boards import accelerators
from zeroskip.converters import container
from zeroskip.converters.ir import (
    RELU,
    FullyConnected,
    Graph,
    Op,
    Quantization,
    Tensor,
    Unary,
    UnaryKind,
)
from zeroskip.errors import BoardError, InputError

ROOT = Path(__file__).parents[2]
EIE = accelerators.find("eie-64pe")
assert EIE is not None


def test_the_column_of_section_3_2() -> None:
    encoded = encode(np.array([[0, 0, 1, 2, *[0] * 18, 3]]).T, 1)
    assert encoded.values.tolist() == [1, 2, 0, 3]
    assert encoded.gaps.tolist() == [2, 0, 15, 2]
    assert encoded.pointers.tolist() == [[0, 4]]


def test_the_matrix_of_figures_2_and_3() -> None:
    """16 x 8 on four elements; weights are numbered 100 * row + column + 1."""
    of_element_0 = [(0, 0), (8, 0), (12, 0), (4, 1), (0, 2), (12, 2), (0, 4), (4, 4), (0, 5),
                    (12, 5), (0, 6), (8, 7), (12, 7)]  # fmt: skip
    matrix = np.zeros((16, 8), np.int64)
    for row, column in of_element_0:
        matrix[row, column] = 100 * row + column + 1
    matrix[5, 3] = 7  # of element 1: element 0 has nothing in column 3
    encoded = encode(matrix, 4)
    end = int(encoded.pointers[0, -1])
    assert encoded.values[:end].tolist() == [100 * r + c + 1 for r, c in of_element_0]
    assert encoded.gaps[:end].tolist() == [0, 1, 0, 1, 0, 2, 0, 0, 0, 2, 0, 2, 0]
    assert encoded.pointers[0].tolist() == [0, 3, 4, 6, 6, 8, 10, 11, 13]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 130), st.integers(1, 12),
       st.sampled_from([0.0, 0.03, 0.3, 1.0]))  # fmt: skip
def test_walking_the_entries_multiplies(
    seed: int, elements: int, rows: int, columns: int, density: float
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (rows, columns)) * (rng.random((rows, columns)) < density)
    x = rng.integers(-128, 128, columns)
    encoded = encode(weights, elements)
    assert multiply(encoded, x).tolist() == (weights @ x).tolist()
    assert encoded.gaps.size == 0 or encoded.gaps.max() <= 15


def plain(entries: np.ndarray, depth: int) -> int:
    """Cycle by cycle: queues of columns, one broadcast and one entry per element and cycle."""
    elements, columns = entries.shape
    queues: list[deque[int]] = [deque() for _ in range(elements)]
    next_column = cycle = 0
    while next_column < columns or any(queues):
        room = all(len(queue) < depth for queue in queues)
        for queue in queues:  # what was broadcast before this cycle
            if queue:
                queue[0] -= 1
                if queue[0] == 0:
                    queue.popleft()
        if next_column < columns and room:
            for k, queue in enumerate(queues):
                queue.append(max(1, int(entries[k, next_column])))
            next_column += 1
        cycle += 1
    return cycle


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_cycles_are_those_of_a_plain_simulation(depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    entries = rng.poisson(rng.choice([0.3, 1.5, 4.0]), (6, 40))
    timing = simulate(entries, replace(EIE, elements=6, queue_depth=depth))
    assert timing.cycles == plain(entries, depth) + 4  # the pipeline drains
    assert timing.work == entries.sum() and timing.broadcasts == 40


def test_deeper_queues_balance_the_load() -> None:
    entries = np.random.default_rng(0).poisson(3.0, (64, 500))
    balances = [simulate(entries, replace(EIE, queue_depth=d)).load_balance for d in (1, 2, 4, 8)]
    assert balances == sorted(balances) and balances[0] < 0.6 < 0.85 < balances[-1] <= 1


def test_energy_is_the_published_power_times_the_time() -> None:
    weights = np.eye(128, dtype=np.int64)
    result = run_layer(0, "fc", weights, np.arange(128), EIE)
    assert EIE.power_mw == pytest.approx(590, rel=0.01)  # Table V has 0.59 W
    assert result.energy_nj == pytest.approx(EIE.power_mw * result.timing.cycles / 800)
    assert result.exact and result.macs == 127 and result.fits  # activation 0 is not broadcast
    assert not run_layer(0, "fc", np.arange(64).reshape(8, 8), np.ones(8), EIE).fits


def layers() -> Graph:
    """fc 20 -> 30 by rows with zero point 4 before it, ReLU-like sparsity, fc 30 -> 5."""
    rng = np.random.default_rng(3)
    x, h, y = (Quantization((0.0625,), z) for z in (4, -128, 7))
    tensors = [Tensor("x", (20,), "int8", x), Tensor("h", (30,), "int8", h),
               Tensor("y", (5,), "int8", y)]  # fmt: skip
    for name, shape in (("a", (30, 20)), ("b", (5, 30))):
        data = rng.integers(-3, 4, shape).astype(np.int8)
        tensors.append(Tensor(name, shape, "int8", Quantization((0.03125,), 0), data))
    ops = (Op("first", FullyConnected(), ("x", "a"), "h"),
           Op("second", FullyConnected(), ("h", "b"), "y"))  # fmt: skip
    return Graph("two", {t.name: t for t in tensors}, ops, ("x",), ("y",))


@pytest.mark.parametrize("prefer", ["SIZE", "SPEED"])
def test_layers_of_a_container_get_their_own_activations(prefer: str) -> None:
    from zeroskip.converters import reference
    from zeroskip.converters.planner import Prefer

    graph = layers()
    blob = container.build(graph, prefer=Prefer[prefer])
    x = np.random.default_rng(0).integers(-128, 128, (1, 20)).astype(np.int8)
    hidden = reference.run_all(graph, [x])["h"][0]
    first, second = run_container(blob, EIE, [x])
    assert (first.name, first.shape, second.shape) == ("first", (30, 20), (5, 30))
    assert first.exact and second.exact
    assert first.timing.broadcasts == np.count_nonzero(x[0] != 4)
    assert second.timing.broadcasts == np.count_nonzero(hidden != -128)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.zsk"
    path.write_bytes(container.build(layers()))
    arguments = ["emulate", str(path), "--board", "eie-64pe"]
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert "identical to the dense product's" in text and "ISCA 2016" in text and "nJ" in text
    assert cli.main([*arguments, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in shown["layers"]] == ["first", "second"]
    assert cli.main([*arguments, "--rate", "3"]) == 2
    assert "--rate has no meaning for eie-64pe" in capsys.readouterr().err


def test_a_model_without_such_layers_is_refused() -> None:
    q = Quantization((0.0625,), 0)
    tensors = {n: Tensor(n, (4,), "int8", q) for n in "xy"}
    clamp = Op("clamp", Unary(UnaryKind.CLAMP, RELU), ("x",), "y")
    blob = container.build(Graph("none", tensors, (clamp,), ("x",), ("y",)))
    with pytest.raises(InputError, match="the model has none"):
        run_container(blob, EIE, [np.zeros((1, 4), np.int8)])


def test_a_broken_description_is_named(tmp_path: Path) -> None:
    source = (ROOT / "boards" / "eie-64pe" / "accelerator.toml").read_text()
    own = tmp_path / "mine"
    own.mkdir()
    (own / "accelerator.toml").write_text(source.replace("elements = 64 ", "elements = 256 "))
    found = accelerators.find(own)
    assert found is not None and found.elements == 256
    (own / "accelerator.toml").write_text(source.replace("queue_depth = 8", "queue_depth = 0"))
    with pytest.raises(BoardError, match="queue_depth: 0 is outside"):
        accelerators.find(own)
    assert accelerators.find("microbit") is None


def test_table_iv() -> None:
    """Theoretical and actual times within 15 % on eight of nine layers; four made again."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import eie as benchmark
    finally:
        sys.path.pop(0)
    rows = re.findall(r"\| ([\w-]+) \|(.*)\|", (ROOT / "benchmarks" / "eie.md").read_text())
    table = {name: [float(n) for n in re.findall(r"[-+]?\d+\.\d+", rest)] for name, rest in rows}
    assert {layer.name for layer in benchmark.LAYERS} <= set(table)
    for layer in benchmark.LAYERS:
        theoretical, found_t, error_t, actual, found_a, error_a, *_ = table[layer.name]
        assert (theoretical, actual) == (layer.theoretical, layer.actual)
        if layer.name != "VGG-6":
            assert abs(error_t) <= 15 and abs(error_a) <= 15, layer.name
        if layer.inputs * layer.outputs < 6_000_000:
            timing = benchmark.run(layer)
            assert timing.theoretical_us == pytest.approx(found_t, abs=0.01)
            assert timing.actual_us == pytest.approx(found_a, abs=0.01)
