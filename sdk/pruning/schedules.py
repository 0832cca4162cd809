"""How sparse the network is at each training step.

A schedule is a step function `sparsity(step)`, 0..1 and never falling, that reaches `final` at
step `last`. Steps are counted from 0, once per optimizer step (or per epoch: the unit is the
caller's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from zeroskip.errors import InputError


class Schedule(Protocol):
    """The sparsity to hold after `step` optimizer steps, and the step from which it is final."""

    @property
    def last(self) -> int: ...

    def sparsity(self, step: int) -> float: ...


def _check(final: float, **counts: int) -> None:
    if not 0 <= final < 1:
        raise InputError(f"sparsity {final:g} must be at least 0 and less than 1")
    for name, value in counts.items():
        least = 0 if name in ("begin", "at") else 1
        if value < least:
            raise InputError(f"schedule: {name} {value} must be at least {least}")


@dataclass(frozen=True)
class OneShot:
    """Everything at once, at step `at`."""

    final: float
    at: int = 0

    def __post_init__(self) -> None:
        _check(self.final, at=self.at)

    @property
    def last(self) -> int:
        return self.at

    def sparsity(self, step: int) -> float:
        return self.final if step >= self.at else 0.0


@dataclass(frozen=True)
class _Rounds:
    """`rounds` cuts, `every` steps apart from `begin`."""

    final: float
    rounds: int
    every: int
    begin: int = 0

    def __post_init__(self) -> None:
        _check(self.final, rounds=self.rounds, every=self.every, begin=self.begin)

    @property
    def last(self) -> int:
        return self.begin + (self.rounds - 1) * self.every

    def _done(self, step: int) -> int:
        """How many cuts there have been at `step`."""
        return 0 if step < self.begin else min(self.rounds, 1 + (step - self.begin) // self.every)


class Iterative(_Rounds):
    """`rounds` equal cuts, `every` steps apart from `begin`: after i of n, final * i / n
    (Han et al. 2015, with retraining between the cuts)."""

    def sparsity(self, step: int) -> float:
        return self.final * self._done(step) / self.rounds


class Exponential(_Rounds):
    """`rounds` cuts that each remove the same fraction of what is left, `every` steps apart:
    density (1 - final)^(i / n) after i of n (Frankle and Carbin 2019)."""

    def sparsity(self, step: int) -> float:
        done = self._done(step)
        if done == self.rounds:
            return self.final
        return float(1 - (1 - self.final) ** (done / self.rounds))


@dataclass(frozen=True)
class Cubic:
    """Fast first, then ever slower: s_f + (s_i - s_f) * (1 - (t - t_0) / (t_n - t_0))^3, held
    constant for `every` steps (Zhu and Gupta 2017, equation 1). `end` is the step that reaches
    `final`."""

    final: float
    end: int
    begin: int = 0
    every: int = 1
    initial: float = 0.0

    def __post_init__(self) -> None:
        _check(self.final, end=self.end, every=self.every, begin=self.begin)
        if self.end <= self.begin:
            raise InputError(f"schedule: end {self.end} must come after begin {self.begin}")
        if not 0 <= self.initial <= self.final:
            raise InputError(
                f"schedule: initial sparsity {self.initial:g} must be in 0..{self.final:g}"
            )

    @property
    def last(self) -> int:
        return self.end

    def sparsity(self, step: int) -> float:
        if step < self.begin:
            return 0.0
        if step >= self.end:
            return self.final
        held = self.begin + (step - self.begin) // self.every * self.every
        left = 1 - (held - self.begin) / (self.end - self.begin)
        return self.final + (self.initial - self.final) * left**3


_FINAL: Final = 0.75


def final_step(steps: int) -> int:
    """The step at which the masks of methods that prune during a training of `steps` are to be
    final: what they grew or kept at last has to learn."""
    return max(1, round(_FINAL * steps))


NAMES: Final = ("one-shot", "iterative", "exponential", "cubic")


def make(name: str, final: float, steps: int, rounds: int = 10) -> Schedule:
    """The schedule `name` that reaches `final` in at most `steps` steps, in `rounds` cuts
    (cubic: in up to 100). Raises InputError."""
    _check(final, steps=steps, rounds=rounds)
    rounds = min(rounds, steps)
    match name:
        case "one-shot":
            return OneShot(final)
        case "iterative":
            return Iterative(final, rounds, max(1, steps // rounds))
        case "exponential":
            return Exponential(final, rounds, max(1, steps // rounds))
        case "cubic":
            return Cubic(final, end=steps, every=max(1, steps // 100))
    raise InputError(f"schedule '{name}' must be one of {', '.join(NAMES)}")
