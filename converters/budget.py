"""Codecs and layouts for a whole model under budgets of flash, RAM and latency.

Each layer offers options, a codec pair by rows or by columns, that differ in bytes, predicted
cycles (converters/costs.py) and scratch. Bytes and cycles of layers add up, so the best sums are
found by merging Pareto fronts layer by layer (the multiple-choice knapsack problem; Kellerer,
Pferschy and Pisinger, "Knapsack Problems", 2004, chapter 11). It is exact while a front has at most
`MAX_FRONT` points and within 1/MAX_FRONT of the range of bytes otherwise. Scratch does not add up:
it is bounded by what lives at the same time, so options are first filtered by that bound and then,
while the real memory plan is over the budget, by the largest scratch at its top.

Without a latency budget the fastest plan that fits flash and RAM is chosen, with one the
smallest that meets it and fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters import codecs, container, costs, planner
from zeroskip.converters.codecs import EncodedMatrix
from zeroskip.converters.costs import Costs
from zeroskip.converters.ir import Conv2D, FullyConnected, Graph, Op
from zeroskip.converters.passes import memory
from zeroskip.converters.scratch import scratch_bytes
from zeroskip.errors import FitError, InputError

Array = npt.NDArray[Any]

MAX_FRONT: Final = 4096
_ATTEMPTS: Final = 8


@dataclass(frozen=True)
class Budget:
    """What a model may take: `flash_bytes` for its container, `ram_bytes` for its arena, scratch
    included, `latency_ms` for one inference at `clock_hz` on a `core` such as "cortex-m4"."""

    flash_bytes: int
    ram_bytes: int
    core: str
    clock_hz: int
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("flash", self.flash_bytes), ("RAM", self.ram_bytes)):
            if value <= 0:
                raise InputError(f"a {what} budget of {value} bytes must be above 0")
        if self.clock_hz <= 0:
            raise InputError(f"a clock of {self.clock_hz} Hz must be above 0")
        if self.latency_ms is not None and not 0 < self.latency_ms < float("inf"):
            raise InputError(f"a latency budget of {self.latency_ms:g} ms must be above 0")
        costs.load(self.core)

    def milliseconds(self, cycles: float) -> float:
        return cycles / self.clock_hz * 1e3


@dataclass(frozen=True)
class Option:
    """One way to store a layer's weights."""

    encoded: EncodedMatrix
    bytes: int
    cycles: float
    scratch_bytes: int


@dataclass(frozen=True)
class Plan:
    """A choice for every layer, by the name of its output; what the model then takes."""

    encoded: Mapping[str, EncodedMatrix]
    alternatives: Mapping[str, dict[str, int]]
    flash_bytes: int
    arena_bytes: int
    cycles: float

    def choose(self, graph: Graph, op: Op, prefer: planner.Prefer) -> planner.Choice:
        """As container.build wants it; `prefer` is ignored."""
        return planner.Choice(self.encoded[op.output], self.alternatives[op.output])


def plan(graph: Graph, budget: Budget, *, names: bool = True) -> Plan:
    """The best plan within the budget.

    Raises FitError, with the closest plan's figures; InputError for a latency budget of a model
    with float32 layers, of which costs.py only ranks the codecs.
    """
    if budget.latency_ms is not None and _has_float_layers(graph):
        raise InputError(
            f"'{graph.name}' has float32 layers, whose latency cannot be predicted: quantise it, "
            "or leave the latency budget out"
        )
    model = _Model(graph, costs.load(budget.core), names)
    fitting = _fitting_ram(model, budget)
    flash = budget.flash_bytes
    for _ in range(_ATTEMPTS):
        found, fits = _solve(model, fitting, budget, flash)
        excess = found.flash_bytes - budget.flash_bytes
        if not fits or excess <= 0:
            break
        # Alignment comes on top, equal data is stored once: only the container knows.
        flash -= excess
    missed = _missed(found, budget)
    if missed is not None:
        raise _error(graph, budget, found, missed)
    return found


def _has_float_layers(graph: Graph) -> bool:
    weighted = (op for op in graph.ops if isinstance(op.attributes, Conv2D | FullyConnected))
    return any(graph.output_tensor(op).dtype == "float32" for op in weighted)


def _missed(found: Plan, budget: Budget) -> str | None:
    """The first budget that a plan is over."""
    if found.flash_bytes > budget.flash_bytes:
        return "flash"
    if found.arena_bytes > budget.ram_bytes:
        return "RAM"  # placement is greedy: less scratch may, rarely, take a larger arena
    late = budget.latency_ms is not None and (budget.milliseconds(found.cycles) > budget.latency_ms)
    return "latency" if late else None


class _Model:
    """A graph's layers with their options."""

    def __init__(self, graph: Graph, fitted: Costs, names: bool) -> None:
        self.graph = graph
        self._names = names
        self.layers = {
            op.output: options(graph, op, fitted)
            for op in graph.ops
            if isinstance(op.attributes, Conv2D | FullyConnected)
        }
        others = [costs.other_group(graph, op) for op in graph.ops if op.output not in self.layers]
        self.fixed_cycles = fitted.cycles(*(group for group in others if group is not None))
        smallest = {name: min(found, key=lambda o: o.bytes) for name, found in self.layers.items()}
        weights = sum(option.bytes for option in smallest.values())
        self.fixed_bytes = self.result(smallest).flash_bytes - weights

    def result(self, chosen: Mapping[str, Option]) -> Plan:
        """The plan of a choice, with the bytes of its container."""
        alternatives = {
            name: {o.encoded.name: o.bytes for o in found} for name, found in self.layers.items()
        }
        encoded = {name: option.encoded for name, option in chosen.items()}
        draft = Plan(encoded, alternatives, 0, 0, 0.0)
        blob = container.build(self.graph, choose=draft.choose, names=self._names)
        cycles = self.fixed_cycles + sum(option.cycles for option in chosen.values())
        arena = self.memory(chosen).arena_bytes
        return Plan(encoded, alternatives, len(blob), arena, cycles)

    def memory(self, chosen: Mapping[str, Option]) -> memory.MemoryPlan:
        scratch = {name: option.scratch_bytes for name, option in chosen.items()}
        return memory.plan(self.graph, scratch)


def options(graph: Graph, op: Op, fitted: Costs, active: float | None = None) -> list[Option]:
    """Every way to store the weights of a Conv2D or FullyConnected, the latter by columns, too.

    `active` is the fraction of the inputs that is not zero, by default what the planner assumes.
    """
    weight = graph.tensors[op.inputs[1]]
    assert weight.data is not None
    matrix = weight.data.reshape(weight.shape[0], -1)
    if active is None:
        active = planner.active_inputs(graph, op.inputs[0])
    found = []
    for by_columns in (False, True) if isinstance(op.attributes, FullyConnected) else (False,):
        stored = matrix.T if by_columns else matrix
        for candidate in codecs.candidates(matrix, weight.zero_point, by_columns):
            encoded = candidate.encode()
            found.append(
                Option(
                    encoded,
                    encoded.bytes,
                    costs.layer_cycles(fitted, graph, op, encoded, stored, active),
                    scratch_bytes(graph, op, encoded),
                )
            )
    return found


def best(
    layers: Sequence[Sequence[tuple[int, float]]], *, bytes_limit: float, cycles_limit: float | None
) -> tuple[int, ...] | None:
    """The option of each layer, whose (bytes, cycles) are given: fewest cycles within
    `bytes_limit`, or with a `cycles_limit` fewest bytes within that. None if there is no such."""
    size = np.zeros(1, np.int64)
    time = np.zeros(1, np.float64)
    steps: list[tuple[Array, Array]] = []  # per layer: index in the front before, option
    for layer in layers:
        own_size = np.array([b for b, _ in layer], np.int64)
        own_time = np.array([c for _, c in layer], np.float64)
        sizes = (size[:, None] + own_size).ravel()
        times = (time[:, None] + own_time).ravel()
        kept = _front(sizes, times)
        size, time = sizes[kept], times[kept]
        steps.append((kept // own_size.size, kept % own_size.size))
    # Bytes ascend and cycles descend along the front.
    if cycles_limit is None:
        within = np.flatnonzero(size <= bytes_limit)
        at = int(within[-1]) if within.size else None
    else:
        within = np.flatnonzero((time <= cycles_limit) & (size <= bytes_limit))
        at = int(within[0]) if within.size else None
    if at is None:
        return None
    picks = []
    for before, option in reversed(steps):
        picks.append(int(option[at]))
        at = int(before[at])
    return tuple(reversed(picks))


def _front(sizes: Array, times: Array) -> Array:
    """Indices of the points that no other beats in both, by ascending size; thinned if many."""
    order = np.lexsort((times, sizes))
    ordered = times[order]
    earlier = np.concatenate(([np.inf], np.minimum.accumulate(ordered)[:-1]))
    kept: Array = order[ordered < earlier]
    if kept.size <= MAX_FRONT:
        return kept
    span = sizes[kept]
    bucket = (span - span[0]) * (MAX_FRONT - 1) // max(1, int(span[-1] - span[0]))
    last = np.concatenate((bucket[1:] != bucket[:-1], [True]))
    last[0] = True  # the smallest and, being last, the fastest stay
    thinned: Array = kept[last]
    return thinned


def _fitting_ram(model: _Model, budget: Budget) -> dict[str, list[Option]]:
    """The options of each layer whose memory plan fits the RAM, whichever others are taken.

    Raises FitError if there are none.
    """
    fitting = {name: list(found) for name, found in model.layers.items()}
    while True:
        worst = {n: max(found, key=lambda o: o.scratch_bytes) for n, found in fitting.items()}
        placed = model.memory(worst)
        if placed.arena_bytes <= budget.ram_bytes:
            return fitting
        ends = {n: placed.scratch[n] + o.scratch_bytes for n, o in worst.items()}
        reducible = [n for n, found in fitting.items() if len({o.scratch_bytes for o in found}) > 1]
        if not reducible:
            smallest = {n: min(found, key=lambda o: o.bytes) for n, found in fitting.items()}
            raise _error(model.graph, budget, model.result(smallest), "RAM")
        top = max(reducible, key=lambda n: (ends[n], worst[n].scratch_bytes))
        limit = worst[top].scratch_bytes
        fitting[top] = [o for o in fitting[top] if o.scratch_bytes < limit]


def _solve(
    model: _Model, fitting: Mapping[str, Sequence[Option]], budget: Budget, flash: int
) -> tuple[Plan, bool]:
    """The best plan in a container of about `flash` bytes and True; or, if not even the smallest
    one fits, that and False. Too slow a plan is the fastest one in that flash."""
    layers = [[(o.bytes, o.cycles) for o in found] for found in fitting.values()]
    bytes_limit = flash - model.fixed_bytes
    picks = None
    if budget.latency_ms is not None:
        cycles_limit = budget.latency_ms * 1e-3 * budget.clock_hz - model.fixed_cycles
        picks = best(layers, bytes_limit=bytes_limit, cycles_limit=cycles_limit)
    if picks is None:
        picks = best(layers, bytes_limit=bytes_limit, cycles_limit=None)
    fits = picks is not None
    if picks is None:
        picks = best(layers, bytes_limit=np.inf, cycles_limit=np.inf)
    assert picks is not None  # the front's first point
    chosen = {n: fitting[n][k] for n, k in zip(fitting, picks, strict=True)}
    return model.result(chosen), fits


def _error(graph: Graph, budget: Budget, closest: Plan, over: str) -> FitError:
    latency = budget.milliseconds(closest.cycles)
    if over == "latency":
        assert budget.latency_ms is not None
        missed = f"latency of {budget.latency_ms:g} ms by {latency - budget.latency_ms:.3g} ms"
        remedy = "prune further or take a faster board"
    elif over == "flash":
        excess = closest.flash_bytes - budget.flash_bytes
        missed = f"flash of {budget.flash_bytes:,} bytes by {excess:,} bytes"
        remedy = "prune further or share weights"
    else:
        excess = closest.arena_bytes - budget.ram_bytes
        missed = f"RAM of {budget.ram_bytes:,} bytes by {excess:,} bytes"
        remedy = "use a smaller input or fewer channels in the widest layers"
    time = f"{latency:.3g} ms ({costs.load(budget.core).provenance})"
    if _has_float_layers(graph):
        time = "a time that is not predicted for float32"
    return FitError(
        f"'{graph.name}' misses its budget: the closest plan is over the {missed}; it takes "
        f"{closest.flash_bytes:,} bytes, an arena of {closest.arena_bytes:,} bytes and "
        f"{time}; {remedy}"
    )
