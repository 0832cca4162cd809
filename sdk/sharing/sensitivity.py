"""How many bits each tensor's indices need: a sensitivity sweep under an accuracy budget."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from zeroskip.errors import InputError
from zeroskip.pruning.targets import Select, targets
from zeroskip.sharing.shared import share

Evaluate = Callable[[nn.Module], float]


@dataclass(frozen=True)
class BitsPlan:
    """Bits per tensor and what they cost.

    `accuracy[name][bits]` is the accuracy with only that tensor shared; `baseline` is that of
    the model as it was given, `expected` that of the plan. `index_bits` is the sum of bits over
    all non-zero weights.
    """

    bits: dict[str, int]
    accuracy: dict[str, dict[int, float]]
    baseline: float
    expected: float
    index_bits: int

    @property
    def centroids(self) -> dict[str, int]:
        """The plan as `share` takes it."""
        return {name: 1 << bits for name, bits in self.bits.items()}


def choose_bits(
    model: nn.Module,
    evaluate: Evaluate,
    max_accuracy_loss: float,
    *,
    bits: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8),
    init: str = "linear",
    per_channel: bool = False,
    select: Select | None = None,
    exclude: Sequence[str] = (),
    seed: int = 0,
) -> BitsPlan:
    """The fewest index bits whose accuracy, before centroids are trained, stays in the budget.

    `evaluate(model)` gives the accuracy (higher is better, any unit) of a copy of the model on
    validation data; `max_accuracy_loss` is in the same unit. Each tensor is first shared alone
    at each width. Then, from the widest everywhere, the tensor whose step down saves the most
    bits per accuracy lost alone is narrowed, as long as the accuracy of all together is inside
    the budget; a step that leaves it is taken back and that tensor stays. `model` is not changed.

    Raises InputError for bad arguments, or if the widest sharing is over the budget already;
    the message says by how much.
    """
    widths = sorted(set(bits))
    if not widths or widths[0] < 1 or widths[-1] > 8:
        raise InputError(f"bits {list(bits)} must be some of 1..8")
    if max_accuracy_loss < 0:
        raise InputError(f"max_accuracy_loss {max_accuracy_loss:g} must not be negative")
    chosen = targets(model, select, exclude)
    nonzero = {name: int((t.value != 0).sum()) for name, t in chosen.items()}
    options = {"init": init, "per_channel": per_channel, "seed": seed}

    def accuracy_of(plan: Mapping[str, int]) -> float:
        trial = copy.deepcopy(model)
        counts = {name: 1 << b for name, b in plan.items()}
        share(trial, counts, select=lambda n, _: n in plan, **options)  # type: ignore[arg-type]
        return float(evaluate(trial))

    baseline = float(evaluate(copy.deepcopy(model)))
    alone = {name: {b: accuracy_of({name: b}) for b in widths} for name in chosen}
    floor = baseline - max_accuracy_loss
    plan = dict.fromkeys(chosen, widths[-1])
    expected = accuracy_of(plan)
    if expected < floor:
        raise InputError(
            f"{widths[-1]} bits everywhere lose {baseline - expected:g} of accuracy; the budget "
            f"is {max_accuracy_loss:g}: allow more bits or a larger loss"
        )
    movable = {name for name in plan if nonzero[name]}
    while movable:
        name = _best_step(plan, movable, widths, alone, nonzero)
        if name is None:
            break
        trial = {**plan, name: widths[widths.index(plan[name]) - 1]}
        reached = accuracy_of(trial)
        if reached >= floor:
            plan, expected = trial, reached
        else:
            movable.discard(name)
    return BitsPlan(plan, alone, baseline, expected, sum(plan[n] * nonzero[n] for n in plan))


def _best_step(
    plan: Mapping[str, int],
    movable: set[str],
    widths: Sequence[int],
    alone: Mapping[str, Mapping[int, float]],
    nonzero: Mapping[str, int],
) -> str | None:
    """The tensor whose next narrower width saves the most bits per accuracy lost."""
    best: tuple[float, str] | None = None
    for name in plan:  # in model order, so that equal gains go to the first
        place = widths.index(plan[name])
        if name not in movable or place == 0:
            continue
        narrower = widths[place - 1]
        saved = (plan[name] - narrower) * nonzero[name]
        lost = max(0.0, alone[name][plan[name]] - alone[name][narrower])
        gain = saved / (lost + 1e-6)
        if best is None or gain > best[0]:
            best = (gain, name)
    return best[1] if best else None
