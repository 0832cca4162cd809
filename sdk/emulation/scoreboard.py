"""Cycles of cores that overlap instructions: an in-order scoreboard over executed blocks.

Every block is issued instruction by instruction, behind the block that it was entered from, so
that results still under way there count. An instruction issues when its operands are there and a
slot is free, together with the one before it if both may (boards/cores/<core>.toml, with its
sources). What an entered block costs is the difference to the block before alone; the sum over
the counted edges is the estimate.

What is deliberately not modelled: memory banks, operand-dependent times (division), fetch and
its alignment, a branch predictor other than one counter of two bits per branch (trace.c).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from zeroskip import elf
from zeroskip.boards import Pipeline
from zeroskip.emulation.profile import Region
from zeroskip.emulation.thumb import Decoder, Instruction, Kind, Unit

_MULTIPLY = frozenset(
    {
        Kind.MULTIPLY, Kind.MULTIPLY_ACCUMULATE, Kind.MULTIPLY_LONG, Kind.MULTIPLY_LONG_ACCUMULATE,
    }
)  # fmt: skip
_CLASS_OF_KIND = {
    Kind.DIVIDE: "divide",
    Kind.LOAD: "load",
    Kind.LITERAL: "load",
    Kind.STORE: "store",
    Kind.STORE_REGISTER_OFFSET: "store",
    Kind.LOAD_DOUBLE: "multiple",
    Kind.STORE_DOUBLE: "multiple",
    Kind.LOAD_MULTIPLE: "multiple",
    Kind.STORE_MULTIPLE: "multiple",
    Kind.POP_PC: "multiple",
    Kind.LOAD_PC: "load",
    Kind.FLOAT: "float",
    Kind.FLOAT_DIVIDE: "float",
    Kind.FLOAT_MULTIPLY_ACCUMULATE: "float_accumulate",
    Kind.FLOAT_LOAD_STORE: "float_load",
    Kind.SYSTEM: "other",
    Kind.BARRIER: "other",
    Kind.IF_THEN: "branch",
}
_FLOATS = ("float", "float_accumulate", "float_load")


def class_of(i: Instruction) -> str:
    """The instruction's class, one of boards.description.PIPELINE_CLASSES."""
    if i.kind in _MULTIPLY or (i.kind is Kind.ALU and i.unit is Unit.MULTIPLY):
        return "multiply"
    if i.kind is Kind.LOAD and i.part:
        return "load_part"
    if i.kind.leaves and i.kind not in (Kind.POP_PC, Kind.LOAD_PC):
        return "branch"
    return _CLASS_OF_KIND.get(i.kind, i.unit.value)


def _any_pair(pairs: tuple[tuple[str, str], ...], older: Instruction, younger: Instruction) -> bool:
    first, second = (("*", class_of(i), *(["light"] if i.light else [])) for i in (older, younger))
    return any((a, b) in pairs for a in first for b in second)


class ScoreboardModel:
    """Prices regions of one program on a pipeline."""

    def __init__(self, image: elf.Elf, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._decoder = Decoder(image)
        self._known: dict[tuple[object, ...], float] = {}

    def cycles(self, region: Region) -> int:
        """Estimated cycles of everything counted in `region`."""
        sizes: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for (start, size), count in region.blocks.items():
            sizes[start].append((size, count))
        entered: Counter[tuple[int, int]] = Counter()
        total = 0.0
        for (start, size, target), count in region.edges.items():
            if (start, size) not in region.blocks:
                continue
            taken = target != start + size
            targets = sizes.get(target, [])
            if not targets:
                total += count * self._cost((start, size), taken, None)
                continue
            executions = sum(n for _, n in targets)
            for index, (target_size, n) in enumerate(targets):
                # An address may begin blocks of several sizes; an edge does not tell which.
                share = count * n // executions
                if index == 0:
                    share = count - sum(count * m // executions for _, m in targets[1:])
                entered[target, target_size] += share
                total += share * self._cost((start, size), taken, (target, target_size))
        for block, count in region.blocks.items():
            total += max(0, count - entered[block]) * self._cost(None, False, block)
        penalty = self._pipeline.mispredicted
        return round(total) + penalty * sum(region.mispredicted.values())

    def instructions(self, region: Region) -> int:
        """Executed instructions, those of an IT block whose condition failed included."""
        return sum(n * len(self._decoder.block(*block)) for block, n in region.blocks.items())

    def _cost(
        self, before: tuple[int, int] | None, taken: bool, block: tuple[int, int] | None
    ) -> float:
        """Cycles of the branch that ends `before`, and of `block` but for its own branch."""
        key = (before, taken, block)
        if key not in self._known:
            issue = _Issue(self._pipeline)
            start = 0.0
            if before is not None:
                body, last = _split(self._decoder.block(*before))
                issue.run(body)
                start = issue.time
                if last is not None:
                    issue.leave(last, taken)
            if block is not None:
                issue.run(_split(self._decoder.block(*block))[0])
            self._known[key] = issue.time - start
        return self._known[key]


def _split(
    block: tuple[Instruction, ...],
) -> tuple[tuple[Instruction, ...], Instruction | None]:
    """A block without the instruction that leaves it, and that."""
    return (block[:-1], block[-1]) if block and block[-1].kind.leaves else (block, None)


class _Issue:
    """The state of a pipeline: the cycle, what issued in it, when registers can be read."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._p = pipeline
        self._cycle = 0
        self._issued: list[Instruction] = []  # in this cycle
        self._late: dict[int, int] = {}
        self._early: dict[int, int] = {}
        self._multiplied: dict[int, int] = {}  # when accumulators can go on
        self._loaded: dict[int, int] = {}  # the cycle of a load of the register
        self._float_free = 0

    @property
    def time(self) -> float:
        """Cycles so far; a slot that is left counts for what follows, if that can use it."""
        slots = 1 if self._p.narrow else self._p.width
        return self._cycle + min(1.0, len(self._issued) / slots)

    def run(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            self._place(instruction, self._duration(instruction))

    def leave(self, branch: Instruction, taken: bool) -> None:
        """Issue the instruction that ends a block."""
        p = self._p
        if branch.kind is Kind.LOOP_END:
            # Branches by itself from its second turn on; the first is paid for as it ends.
            self._advance(self._cycle + bool(self._issued) + (0 if taken else p.branch_taken))
            return
        if not taken:
            self._place(branch, 1)
            return
        before = self._issued[-1] if self._issued else None
        self._place(branch, 1)
        folded = len(self._issued) > 1
        if folded and p.narrow and before is not None and before.sets_flags:
            self._advance(self._cycle + 1)  # only a branch that is not taken pairs with those
            folded = False
        if branch.kind in (Kind.POP_PC, Kind.LOAD_PC):
            words = branch.registers if branch.kind is Kind.POP_PC else 1
            cycles = p.pop_pc + -(-words // p.multiple_words)
        else:
            # A folded branch is done with the cycle of the instruction before it.
            cycles = p.branch_folded if folded else p.branch_taken
            if branch.kind in (Kind.BRANCH_REGISTER, Kind.CALL_REGISTER, Kind.TABLE_BRANCH):
                cycles += p.indirect
        self._advance(self._cycle + cycles)

    def _duration(self, i: Instruction) -> int:
        """Cycles in which nothing else issues but what pairs in the first."""
        p = self._p
        if i.kind is Kind.DIVIDE:
            return p.divide
        if i.kind is Kind.FLOAT_DIVIDE:
            return p.float_divide
        if i.kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE):
            return -(-i.registers // p.multiple_words)
        if i.kind in (Kind.LOAD_DOUBLE, Kind.STORE_DOUBLE):
            return -(-2 // p.multiple_words)
        if i.kind is Kind.FLOAT_LOAD_STORE:
            return -(-i.registers // p.multiple_words)
        if i.kind is Kind.BARRIER:
            return p.barrier
        if i.kind is Kind.SYSTEM:
            return p.system
        if i.kind is Kind.MULTIPLY and i.sets_flags:
            return p.muls_flags
        return 1

    def _place(self, i: Instruction, duration: int) -> None:
        ready = self._ready(i)
        if ready > self._cycle:
            self._advance(ready)
        if self._issued and not self._pairs(self._issued[-1], i):
            self._advance(self._cycle + 1)
        self._issued.append(i)
        issued_at = self._cycle
        self._retire(i, issued_at, duration)
        if duration > 1:
            self._advance(issued_at + duration)

    def _advance(self, cycle: int) -> None:
        self._cycle = cycle
        self._issued = []

    def _pairs(self, older: Instruction, younger: Instruction) -> bool:
        p = self._p
        if len(self._issued) >= p.width:
            return False
        if _any_pair(p.apart, older, younger):
            return False
        if not p.narrow:
            return True
        return older.size == younger.size == 2 and _any_pair(p.narrow, older, younger)

    def _ready(self, i: Instruction) -> int:
        kind = class_of(i)
        cycle = 0
        for register in i.reads:
            if register in i.accumulator and register in self._multiplied:
                cycle = max(cycle, self._multiplied[register])
            elif register in i.accumulator and register in self._loaded:
                cycle = max(cycle, self._loaded[register] + self._p.load_accumulate)
            elif register in i.address_uses or register in i.early:
                cycle = max(cycle, self._early.get(register, 0))
            elif kind == "store" and register in self._loaded:
                cycle = max(cycle, self._loaded[register] + self._p.load_store)
            else:
                cycle = max(cycle, self._late.get(register, 0))
        if kind in _FLOATS:
            cycle = max(cycle, self._float_free)
        return cycle

    def _retire(self, i: Instruction, cycle: int, duration: int) -> None:
        p, kind = self._p, class_of(i)
        late, early = p.latency.get(kind, (1, 1))
        end = cycle + duration - 1
        for register in i.writes:
            self._multiplied.pop(register, None)
            self._loaded.pop(register, None)
            based = register in i.address_uses and i.kind.accesses_memory
            self._late[register] = end + (1 if based else late)
            self._early[register] = end + (1 if based else early)
            if kind in ("multiply", "float_accumulate"):
                gap = p.accumulate if kind == "multiply" else p.float_accumulate_gap
                self._multiplied[register] = end + gap
            elif kind in ("load", "load_part") and not based:
                self._loaded[register] = end
        if kind == "float_accumulate":
            self._float_free = cycle + p.float_accumulate_gap
