"""Plans keep their budgets, are the best there are, and say what misses when there is none."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from zeroskip import boards
from zeroskip.conversion import CODE_RESERVE_BYTES, board_budget
from zeroskip.converters import budget, container
from zeroskip.converters.budget import Budget, best
from zeroskip.converters.description import describe
from zeroskip.converters.ir import RELU, FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.converters.planner import Prefer
from zeroskip.errors import FitError, InputError, ModelError

LAYERS = st.lists(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60).map(float)), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


def brute_force(layers, bytes_limit, cycles_limit):
    """(bytes, cycles) of the best choice, or None."""
    sums = [
        (sum(b for b, _ in picked), sum(c for _, c in picked))
        for picked in itertools.product(*layers)
    ]
    within = [s for s in sums if s[0] <= bytes_limit]
    if cycles_limit is not None:
        return min((s for s in within if s[1] <= cycles_limit), default=None)
    return min(within, key=lambda s: (s[1], s[0]), default=None)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(LAYERS, st.integers(0, 200), st.one_of(st.none(), st.integers(0, 200)))
def test_the_best_choice_is_that_of_brute_force(layers, bytes_limit, cycles_limit) -> None:
    picks = best(layers, bytes_limit=bytes_limit, cycles_limit=cycles_limit)
    expected = brute_force(layers, bytes_limit, cycles_limit)
    if picks is None:
        assert expected is None
        return
    chosen = [layer[k] for layer, k in zip(layers, picks, strict=True)]
    found = sum(b for b, _ in chosen), sum(c for _, c in chosen)
    if cycles_limit is None:
        assert expected is not None and found == expected
    else:
        assert expected is not None and found[0] == expected[0] and found[1] <= cycles_limit


def test_many_points_are_thinned_within_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    layers = [[(int(b), 1e6 / (b + 1)) for b in rng.integers(1, 5000, 9)] for _ in range(12)]
    exact = best(layers, bytes_limit=20_000, cycles_limit=None)
    monkeypatch.setattr(budget, "MAX_FRONT", 64)
    thinned = best(layers, bytes_limit=20_000, cycles_limit=None)
    assert exact is not None and thinned is not None
    cost = [
        (sum(o[k][0] for o, k in zip(layers, p, strict=True)),
         sum(o[k][1] for o, k in zip(layers, p, strict=True)))
        for p in (exact, thinned)
    ]  # fmt: skip
    assert max(size for size, _ in cost) <= 20_000
    assert cost[0][1] <= cost[1][1] <= 1.25 * cost[0][1]


def limits(seed: int) -> tuple[Graph, int, int, float]:
    """A random graph; bytes and arena of its smallest container, cycles of the fastest plan."""
    graph = random_graph(seed, "int8", 4)
    blob = container.build(graph)
    free = Budget(1 << 24, 1 << 24, "cortex-m4", 100_000_000)
    fastest = budget.plan(graph, free)
    return graph, len(blob), describe(blob).arena_bytes, free.milliseconds(fastest.cycles)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(0, 300), st.floats(0.7, 1.6), st.floats(0.7, 1.6),
    st.one_of(st.none(), st.floats(0.7, 2)),
)  # fmt: skip
def test_a_plan_is_within_its_budget_or_an_error(seed, flash, ram, latency) -> None:
    try:
        graph, size, arena, fastest_ms = limits(seed)
    except ModelError:
        return
    wanted = Budget(
        max(1, int(flash * size)), max(1, int(ram * arena)), "cortex-m4", 100_000_000,
        None if latency is None else max(1e-9, latency * fastest_ms),
    )  # fmt: skip
    try:
        found = budget.plan(graph, wanted)
    except FitError as error:
        text = str(error)
        assert (
            "\n" not in text
            and "closest plan" in text
            and " by " in text
            and "-" not in (text.split(" by ")[1].split(" ")[0])
        )
        assert flash < 1.1 or ram < 1.01 or (latency is not None and latency < 1.5), text
        return
    blob = container.build(graph, choose=found.choose)
    assert len(blob) == found.flash_bytes <= wanted.flash_bytes
    assert describe(blob).arena_bytes == found.arena_bytes <= wanted.ram_bytes
    if wanted.latency_ms is not None:
        assert wanted.milliseconds(found.cycles) <= wanted.latency_ms


@pytest.mark.parametrize("seed", [3, 7])
def test_an_impossible_budget_is_an_error_with_the_closest_plan(seed: int) -> None:
    graph = random_graph(seed, "int8", 4)
    roomy = {"flash_bytes": 1 << 24, "ram_bytes": 1 << 24, "core": "cortex-m0", "clock_hz": 10**8}
    with pytest.raises(FitError, match=r"over the flash of 40 bytes by .*\(estimated"):
        budget.plan(graph, Budget(**{**roomy, "flash_bytes": 40}))
    with pytest.raises(FitError, match=r"over the RAM of 1 bytes by .*\(estimated"):
        budget.plan(graph, Budget(**{**roomy, "ram_bytes": 1}))
    with pytest.raises(FitError, match=r"over the latency of 1e-09 ms by .*cortex-m0 itself"):
        budget.plan(graph, Budget(**roomy, latency_ms=1e-9))


@pytest.fixture
def sparse_pair() -> Graph:
    """Two fully connected layers with a ReLU between: 40 % and 10 % of their weights, shared."""
    rng = np.random.default_rng(0)
    q = Quantization((0.5,), 0)
    relu = Quantization((0.5,), -128)
    tensors = [Tensor("x", (120,), "int8", q)]
    for i, (shape, density, out) in enumerate((((80, 120), 0.4, relu), ((60, 80), 0.1, q))):
        data = (rng.integers(-8, 9, shape) * (rng.random(shape) < density)).astype(np.int8)
        tensors += [
            Tensor(f"w{i}", shape, "int8", q, data), Tensor(f"y{i}", (shape[0],), "int8", out)
        ]  # fmt: skip
    ops = (
        Op("first", FullyConnected(RELU), ("x", "w0"), "y0"),
        Op("second", FullyConnected(), ("y0", "w1"), "y1"),
    )
    return Graph("pair", {t.name: t for t in tensors}, ops, ("x",), ("y1",))


def test_flash_is_traded_for_latency_and_ram(sparse_pair: Graph) -> None:
    def plan(**limits: float) -> budget.Plan:
        roomy = {"flash_bytes": 1 << 20, "ram_bytes": 1 << 20, "core": "cortex-m4"}
        return budget.plan(sparse_pair, Budget(**{**roomy, "clock_hz": 120_000_000, **limits}))

    fastest = plan()
    smallest = len(container.build(sparse_pair, prefer=Prefer.SIZE))
    assert smallest < fastest.flash_bytes
    assert fastest.encoded["y1"].by_columns
    slowest = plan(latency_ms=1e3)
    late_ms = (fastest.cycles + slowest.cycles) / 2 / 120e3
    late = plan(latency_ms=late_ms)
    assert late.flash_bytes < fastest.flash_bytes and late.cycles / 120e3 <= late_ms
    assert slowest.flash_bytes <= smallest
    between = plan(flash_bytes=(smallest + fastest.flash_bytes) // 2)
    assert between.flash_bytes <= (smallest + fastest.flash_bytes) // 2
    assert fastest.cycles <= between.cycles
    # By columns takes 4 bytes of scratch per output.
    tight = plan(ram_bytes=fastest.arena_bytes - 4)
    assert tight.arena_bytes < fastest.arena_bytes and tight.cycles > fastest.cycles


@pytest.mark.parametrize(
    "wrong",
    [{"flash_bytes": 0}, {"ram_bytes": -1}, {"clock_hz": 0}, {"latency_ms": 0.0},
     {"latency_ms": float("nan")}, {"core": "z80"}],
)  # fmt: skip
def test_senseless_budgets_are_refused(wrong) -> None:
    good = {"flash_bytes": 1, "ram_bytes": 1, "core": "cortex-m4", "clock_hz": 1}
    with pytest.raises(InputError):
        Budget(**{**good, **wrong})


def test_the_latency_of_float32_is_not_promised() -> None:
    graph = next(
        g for g in (random_graph(seed, "float32", 4) for seed in range(50))
        if any(isinstance(op.attributes, FullyConnected) for op in g.ops)
    )  # fmt: skip
    roomy = {"flash_bytes": 1 << 24, "ram_bytes": 1 << 24, "core": "cortex-m4", "clock_hz": 10**8}
    with pytest.raises(InputError, match="float32 layers, whose latency"):
        budget.plan(graph, Budget(**roomy, latency_ms=1e6))
    with pytest.raises(FitError, match="not predicted for float32"):
        budget.plan(graph, Budget(**{**roomy, "flash_bytes": 40}))


def test_the_reserve_holds_the_largest_runtime_and_its_port() -> None:
    """The port, start-up and console included, takes less than 2 KiB."""
    with (Path(__file__).resolve().parents[2] / "benchmarks" / "sizes.csv").open() as file:
        largest = max(int(row["text_bytes"]) for row in csv.DictReader(file))
    assert largest + 2048 <= CODE_RESERVE_BYTES


def test_the_default_budget_of_a_board_is_what_its_memories_leave() -> None:
    board = boards.load("microbit")
    found = board_budget(board)
    assert found.flash_bytes == board.flash.size - CODE_RESERVE_BYTES
    assert found.ram_bytes < board.ram.size - board.stack.size
    assert (found.core, found.clock_hz, found.latency_ms) == ("cortex-m0", 16_000_000, None)
    own = board_budget(board, flash_bytes=1000, ram_bytes=2000, latency_ms=3.5)
    assert (own.flash_bytes, own.ram_bytes, own.latency_ms) == (1000, 2000, 3.5)
