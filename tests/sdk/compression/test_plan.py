"""Which stage comes next: the search for a ratio, and under an accuracy budget."""

import pytest

pytest.importorskip("torch")

from zeroskip.compression.plan import (
    MOST_ROUNDS,
    Prune,
    Result,
    Share,
    Train,
    decide,
)
from zeroskip.compression.recipe import Goal, Recipe
from zeroskip.errors import GoalError, InputError

RECIPE = Recipe(centroids=16)
FIRST = Result("train", 0.0, 400_000, 0.95, True)  # 100,000 weights


def play(goal: Goal, size_of, accuracy_of) -> list[Result]:  # type: ignore[no-untyped-def]
    """Results of a run in which bytes and accuracy are functions of the density."""
    results = [FIRST]
    while (stage := decide(results, goal, RECIPE)) is not None:
        assert len(results) < 60
        if isinstance(stage, Share):
            last = [r for r in results if r.kept][-1]
            results.append(Result("share", last.sparsity, last.bytes, last.accuracy, True))
            continue
        assert isinstance(stage, Prune) and isinstance(stage.sparsity, float)
        density = 1 - stage.sparsity
        found = Result(stage.name, stage.sparsity, size_of(density), accuracy_of(density), True)
        kept = stage.worth(found, results)
        results.append(Result(found.stage, found.sparsity, found.bytes, found.accuracy, kept))
    return results


def test_a_run_begins_with_training_and_ends_with_sharing() -> None:
    goal = Goal(sparsity=0.9)
    assert decide([], goal, RECIPE) == Train()
    results = play(goal, lambda d: int(1e5 * d), lambda d: 0.9)
    assert [r.stage for r in results] == ["train", "prune to 90.00 %", "share"]


@pytest.mark.parametrize("bits", [6, 10, 25])
def test_a_ratio_is_reached_whatever_a_weight_costs(bits: int) -> None:
    goal = Goal(ratio=40)
    results = play(goal, lambda d: 300 + int(1e5 * d * bits / 8), lambda d: 0.9)
    assert results[-1].bytes <= 400_000 / 40
    densities = [1 - r.sparsity for r in results if r.stage.startswith("prune")]
    assert densities == sorted(densities, reverse=True)
    if bits > 12:  # the first guess was too dense; what follows does not overshoot by much
        assert results[-1].bytes > 0.8 * 400_000 / 40


def test_a_ratio_below_the_fixed_part_of_the_container_is_refused_with_the_closest() -> None:
    with pytest.raises(GoalError, match=r"ratio of 1000 is out of reach: .* times fewer"):
        play(Goal(ratio=1000), lambda d: 1000 + int(1e5 * d), lambda d: 0.9)


@pytest.mark.parametrize("edge", [0.3, 0.05, 0.004])
def test_under_a_budget_the_density_ends_close_above_where_accuracy_breaks(edge: float) -> None:
    results = play(Goal(loss=0.01), lambda d: int(1e5 * d), lambda d: 0.95 if d >= edge else 0.9)
    kept = 1 - results[-1].sparsity
    assert edge <= kept < edge / 0.6 * 1.001
    assert results[-1].accuracy >= FIRST.accuracy - 0.01


def test_a_budget_that_the_first_cut_breaks_is_tried_denser_and_then_refused() -> None:
    with pytest.raises(GoalError, match=r"5\.00 points of accuracy are lost, 1\.00 were allowed"):
        play(Goal(loss=0.01), lambda d: int(1e5 * d), lambda d: 0.9)
    results = play(Goal(loss=0.01), lambda d: 1000, lambda d: 0.95 if d > 0.6 else 0.9)
    assert results[-1].stage == "share" and 1 - results[-1].sparsity > 0.6


def test_a_budget_that_never_breaks_ends() -> None:
    results = play(Goal(loss=0.5), lambda d: int(1e5 * d), lambda d: 0.95)
    assert sum(r.stage.startswith("prune") for r in results) <= MOST_ROUNDS


def test_accuracy_lost_by_sharing_is_told() -> None:
    results = [
        FIRST,
        Result("prune to 60.00 %", 0.6, 1000, 0.95, True),
        Result("prune to 76.00 %", 0.76, 900, 0.5, False),
        Result("prune to 69.02 %", 0.69, 900, 0.5, False),
        Result("share", 0.6, 900, 0.8, True),
    ]
    with pytest.raises(GoalError, match=r"after sharing 15\.00 points"):
        decide(results, Goal(loss=0.01), RECIPE)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"ratio": 2.0, "loss": 0.1}, {"ratio": 0.5}, {"loss": 1.5}, {"sparsity": 1.0},
     {"sparsity": {"fc": -0.1}}, {"ratio": float("nan")}],
)  # fmt: skip
def test_goals_that_make_no_sense_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Goal(**arguments)  # type: ignore[arg-type]
