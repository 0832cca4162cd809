"""Which stage of the pipeline comes next, from the results of those before. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zeroskip.errors import GoalError

if TYPE_CHECKING:
    from zeroskip.compression.recipe import Goal, Recipe

FIRST_DENSITY: Final = 0.4  # of the search under an accuracy budget; then each round times
DENSITY_STEP: Final = 0.6
LEAST_DENSITY: Final = 0.001
MOST_ROUNDS: Final = 12
_CLOSE_ENOUGH: Final = 1.25  # between the densities that pass and fail
_FIRST_BITS: Final = 12  # guess: bits per non-zero weight, all included


@dataclass(frozen=True)
class Result:
    """A stage that is done. `accuracy` 0..1 on the validation samples; `bytes` of the container
    (before pruning: of the parameters in float32); `kept`: later stages start from its model."""

    stage: str
    sparsity: float
    bytes: int
    accuracy: float
    kept: bool

    def line(self) -> str:
        """For people."""
        verdict = "" if self.kept else ", over the budget: taken back"
        return (
            f"{self.stage}: {100 * self.sparsity:.2f} % zeros, {self.bytes:,} bytes, "
            f"{100 * self.accuracy:.2f} % correct{verdict}"
        )


@dataclass(frozen=True)
class Train:
    """Training before pruning; with 0 epochs only the reference accuracy is taken."""

    @property
    def name(self) -> str:
        return "train"


@dataclass(frozen=True)
class Prune:
    """Prune to `sparsity` (or sparsities by layer) and retrain."""

    sparsity: float | Mapping[str, float]
    most_loss: float | None = None

    @property
    def name(self) -> str:
        if isinstance(self.sparsity, Mapping):
            return "prune"
        return f"prune to {100 * self.sparsity:.2f} %"

    def worth(self, result: Result, before: Sequence[Result]) -> bool:
        """Whether the model is within the accuracy budget, if there is one."""
        return self.most_loss is None or before[0].accuracy - result.accuracy <= self.most_loss


@dataclass(frozen=True)
class Share:
    """Share weights and train the centroids."""

    centroids: int | Mapping[str, int] | str

    @property
    def name(self) -> str:
        return "share"

    def worth(self, result: Result, before: Sequence[Result]) -> bool:
        return True


Stage = Train | Prune | Share


def decide(results: Sequence[Result], goal: Goal, recipe: Recipe) -> Stage | None:
    """The next stage, or None when the goal is reached. Raises GoalError if it cannot be."""
    if not results:
        return Train()
    rounds = [r for r in results if r.stage.startswith("prune")]
    if results[-1].stage != "share":
        stage = _prune(results[0], rounds, goal)
        return stage if stage is not None else Share(recipe.centroids)
    last = results[-1]
    if goal.ratio is not None and last.bytes > results[0].bytes / goal.ratio:
        return _sparser(results[0], rounds, last, goal.ratio)
    if goal.loss is not None and results[0].accuracy - last.accuracy > goal.loss:
        lost = results[0].accuracy - last.accuracy
        raise GoalError(
            f"after sharing {100 * lost:.2f} points of accuracy are lost, {100 * goal.loss:.2f} "
            f"were allowed ({last.bytes:,} bytes); train longer, or allow more centroids"
        )
    return None


def _prune(first: Result, rounds: Sequence[Result], goal: Goal) -> Prune | None:
    if goal.sparsity is not None:
        return None if rounds else Prune(goal.sparsity)
    if goal.ratio is not None:
        if rounds and rounds[-1].bytes <= first.bytes / goal.ratio:
            return None
        return _sparser(first, rounds, rounds[-1] if rounds else None, goal.ratio)
    assert goal.loss is not None
    return _within(first, rounds, goal.loss)


def _sparser(first: Result, rounds: Sequence[Result], last: Result | None, ratio: float) -> Prune:
    """The density at which the container should be small enough: bytes follow the number of
    weights left, nearly."""
    wanted = first.bytes / ratio
    if last is None:
        weights = first.bytes / 4
        density = min(0.9, 8 * wanted / _FIRST_BITS / weights)
        return Prune(1 - max(density, LEAST_DENSITY))
    density = (1 - rounds[-1].sparsity) * min(0.97, wanted / last.bytes)
    if len(rounds) >= MOST_ROUNDS or density < LEAST_DENSITY / 10:
        raise GoalError(
            f"a ratio of {ratio:g} is out of reach: {100 * last.sparsity:.2f} % zeros give "
            f"{last.bytes:,} bytes, {first.bytes / last.bytes:.1f} times fewer than {first.bytes:,}"
        )
    return Prune(1 - density)


def _within(first: Result, rounds: Sequence[Result], loss: float) -> Prune | None:
    """Down in steps while the accuracy holds, then once between the last two."""
    passed = [1 - r.sparsity for r in rounds if r.kept]
    failed = [1 - r.sparsity for r in rounds if not r.kept]
    if not rounds:
        return Prune(1 - FIRST_DENSITY, loss)
    if not failed:
        density = passed[-1] * DENSITY_STEP
        if len(rounds) >= MOST_ROUNDS or density < LEAST_DENSITY:
            return None
        return Prune(1 - density, loss)
    if not passed:
        if failed[-1] > 0.9:
            worst = min(first.accuracy - r.accuracy for r in rounds)
            raise GoalError(
                f"even at {100 * rounds[-1].sparsity:.1f} % zeros {100 * worst:.2f} points of "
                f"accuracy are lost, {100 * loss:.2f} were allowed; train longer"
            )
        return Prune(1 - math.sqrt(failed[-1]), loss)
    if len(failed) > 1 or passed[-1] / failed[-1] < _CLOSE_ENOUGH:
        return None
    return Prune(1 - math.sqrt(passed[-1] * failed[-1]), loss)
