"""Exact counts, and the schedules' formulas."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.errors import InputError  # noqa: E402
from zeroskip.pruning import densities, schedules, scopes  # noqa: E402


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    sparsity=st.floats(0, 1),
    levels=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_counts_are_exact_whatever_the_ties(
    sizes: list[int], sparsity: float, levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {
        str(i): torch.randint(0, levels, (n,), generator=generator).float()
        for i, n in enumerate(sizes)
    }
    total = sum(sizes)
    masks = scopes.masks(scores, sparsity, "global")
    removed = sum(int((~m).sum()) for m in masks.values())
    assert removed == scopes.zeros_for(sparsity, total) == min(total, int(sparsity * total + 0.5))
    gone = [float(s) for n in scores for s in scores[n][~masks[n]]]
    kept = [float(s) for n in scores for s in scores[n][masks[n]]]
    assert not gone or not kept or max(gone) <= min(kept)
    for mask in scopes.masks(scores, sparsity, "layerwise").values():
        assert int((~mask).sum()) == scopes.zeros_for(sparsity, mask.numel())


def test_earlier_of_equal_scores_goes_first() -> None:
    scores = {"a": torch.ones(3), "b": torch.ones(2)}
    masks = scopes.masks(scores, 0.8, "global")
    assert masks["a"].tolist() == [False] * 3
    assert masks["b"].tolist() == [False, True]


def test_a_sparsity_per_layer() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    pruning.prune(model, {"0": 0.3, "1.weight": 0.9}, scope="layerwise")
    zeros = [int((t.value == 0).sum()) for t in pruning.targets(model).values()]
    assert zeros == [30, 90]
    with pytest.raises(InputError, match=r"nothing given for '1.weight'"):
        pruning.prune(model, {"0": 0.3}, scope="layerwise")
    with pytest.raises(InputError, match="needs the scope 'layerwise'"):
        pruning.prune(model, {"0": 0.3, "1": 0.3})


def test_pruning_again_keeps_what_was_pruned() -> None:
    model = nn.Linear(20, 20)
    first = pruning.prune(model, 0.5)["weight"]
    second = pruning.prune(model, 0.8)["weight"]
    assert not (second & ~first).any()
    assert int((~second).sum()) == 320


def test_excluded_layers_stay_whole() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    pruning.prune(model, 0.5, exclude=["1"])
    assert int((model[0].weight == 0).sum()) == 50
    assert int((model[1].weight == 0).sum()) == 0


def test_formulas() -> None:
    cubic = schedules.Cubic(0.9, end=100, begin=20, every=10, initial=0.1)
    assert cubic.sparsity(19) == 0
    assert cubic.sparsity(20) == pytest.approx(0.1)
    assert cubic.sparsity(60) == pytest.approx(0.9 - 0.8 * 0.5**3)
    assert cubic.sparsity(69) == cubic.sparsity(60)
    assert cubic.sparsity(100) == 0.9
    iterative = schedules.Iterative(0.8, rounds=4, every=10, begin=5)
    assert [iterative.sparsity(s) for s in (4, 5, 14, 15, 35, 99)] == pytest.approx(
        [0, 0.2, 0.2, 0.4, 0.8, 0.8]
    )
    exponential = schedules.Exponential(0.75, rounds=2, every=10)
    assert [exponential.sparsity(s) for s in (0, 10, 50)] == pytest.approx([0.5, 0.75, 0.75])
    one = schedules.OneShot(0.6, at=3)
    assert [one.sparsity(s) for s in (2, 3)] == [0, 0.6]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(schedules.NAMES),
    final=st.floats(0, 0.999),
    steps=st.integers(1, 300),
)
def test_schedules_never_fall_and_end_exactly(name: str, final: float, steps: int) -> None:
    schedule = schedules.make(name, final, steps)
    values = [schedule.sparsity(s) for s in range(steps + 1)]
    assert all(a <= b + 1e-12 for a, b in pairwise(values))
    assert 0 <= values[0] and values[-1] == pytest.approx(final)
    assert schedule.last <= steps
    assert schedule.sparsity(schedule.last) == pytest.approx(final)


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(InputError, match="sparsity 1 must be"):
        schedules.OneShot(1.0)
    with pytest.raises(InputError, match="end 5 must come after begin 5"):
        schedules.Cubic(0.5, end=5, begin=5)
    with pytest.raises(InputError, match="rounds 0 must be at least 1"):
        schedules.Iterative(0.5, rounds=0, every=1)
    with pytest.raises(InputError, match="schedule 'linear' must be one of"):
        schedules.make("linear", 0.5, 10)


def test_at_most_n_of_m_neighbours_stay() -> None:
    torch.manual_seed(0)
    scores = {"fc": torch.rand(6, 16), "conv": torch.rand(4, 8, 3, 3)}
    masks = scopes.masks(scores, 0.5, "2:4")
    # The container's order of a convolution's row: kernel row, kernel column, input channel.
    conv = masks["conv"].permute(0, 2, 3, 1).reshape(4, -1, 4)
    assert bool((conv.sum(2) == 2).all())
    groups = masks["fc"].view(6, 4, 4)
    assert bool((groups.sum(2) == 2).all())
    ranked = scores["fc"].view(6, 4, 4)
    assert bool(
        (ranked.masked_fill(~groups, 2).amin(2) >= ranked.masked_fill(groups, -1).amax(2)).all()
    )


def test_a_short_last_group_keeps_as_many() -> None:
    mask = scopes.masks({"w": torch.rand(3, 9)}, 0.75, "1:4")["w"]
    assert mask[:, :4].sum(1).tolist() == mask[:, 4:8].sum(1).tolist() == [1, 1, 1]
    assert bool(mask[:, 8].all())
    ties = scopes.masks({"w": torch.ones(1, 4)}, 0.5, "2:4")["w"]
    assert ties.tolist() == [[False, False, True, True]]  # the earlier of equal scores goes


def test_blocks_stay_or_go_as_one() -> None:
    torch.manual_seed(0)
    scores = {"fc": torch.rand(8, 12), "conv": torch.rand(4, 6, 3, 3)}
    masks = scopes.masks(scores, 0.5, "4x1")
    rows = {"fc": masks["fc"], "conv": masks["conv"].permute(0, 2, 3, 1).reshape(4, -1)}
    for mask in rows.values():
        blocks = mask.view(-1, 4, mask.shape[1])
        assert bool((blocks.all(1) | ~blocks.any(1)).all())
    zeros = sum(int((~m).sum()) for m in masks.values())
    assert abs(zeros - (96 + 216) / 2) <= 2  # half a block
    each = scopes.masks(scores, 0.5, "4x1@layerwise")
    assert [int((~m).sum()) for m in each.values()] == [48, 108]
    mean = scores["fc"].view(2, 4, 12).mean(1)
    kept = each["fc"].view(2, 4, 12).all(1)
    assert mean[kept].min() > mean[~kept].max()


def test_blocks_are_ranked_by_what_is_left_of_them() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32))
    pruning.prune(model, 0.5)  # weights anywhere
    dead = model[0].weight == 0
    masks = pruning.prune(model, 0.75, scope="4x1")
    assert not bool(masks["0.weight"][dead].any())
    assert pruning.sparsity(model) == pytest.approx(0.75, abs=0.002)
    blocks = masks["0.weight"].view(8, 4, 64)
    gone = ~blocks.any(1, keepdim=True).expand_as(blocks)
    assert bool((blocks | gone | dead.view(8, 4, 64)).all())  # otherwise they stay or go as one
    with pytest.raises(InputError, match="pruned already"):
        pruning.prune(model, 0.6, scope="4x1")


@pytest.mark.parametrize("sparsity", [1.5, -0.1, float("nan")])
@pytest.mark.parametrize("method", ["magnitude", "synflow", "snip"])
def test_a_sparsity_out_of_range_is_one_clear_line(method: str, sparsity: float) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"sparsity .* must be in 0\.\.1"):
        pruning.prune(model, sparsity, method, example=torch.zeros(1, 4))
    assert pruning.sparsity(model) == 0


def test_blocks_at_the_edge_are_smaller() -> None:
    mask = scopes.masks({"w": torch.arange(35.0).view(5, 7)}, 0.5, "2x4")["w"]
    parts = [mask[i : i + 2, j : j + 4] for i in (0, 2, 4) for j in (0, 4)]
    assert all(bool(p.all()) or not bool(p.any()) for p in parts)


def test_erdos_renyi_densities() -> None:
    shapes = {"a": (300, 784), "b": (100, 300), "c": (10, 100)}
    found = densities.erdos_renyi(shapes, 0.06)
    total = sum(x * y for x, y in shapes.values())
    assert sum(found[n] * x * y for n, (x, y) in shapes.items()) == pytest.approx(0.06 * total)
    factor = found["a"] * 300 * 784 / (300 + 784)
    assert found["b"] == pytest.approx(factor * 400 / 30_000)
    assert found["c"] == 1.0  # would be more
    assert densities.erdos_renyi({"conv": (8, 4, 3, 3)}, 0.5)["conv"] == 0.5
    assert densities.erdos_renyi(shapes, 1.0) == dict.fromkeys(shapes, 1.0)
    scores = {name: torch.rand(shape) for name, shape in shapes.items()}
    masks = scopes.masks(scores, 0.94, "erdos-renyi")
    assert sum(int((~m).sum()) for m in masks.values()) == scopes.zeros_for(0.94, total)
    assert bool(masks["c"].all())


@pytest.mark.parametrize("name", ["all", "4:4", "0:4", "5:4", "0x4", "4x1@rows", "2:", "x1"])
def test_what_is_no_scope(name: str) -> None:
    with pytest.raises(InputError, match="scope"):
        scopes.parse(name)
