"""Cycles from execution counts: the additive model of in-order Cortex-M cores.

Each executed instruction costs what boards/cores/<core>.toml says of its class; a taken branch
costs the refill of the pipeline; some pairs of neighbours cost more or less than their sum.
The rules are those of the cores' Technical Reference Manuals (Arm DDI 0337I section 3.3 for
loads and stores) with zero wait states and no bus contention; the tables name their sources.

What is deliberately not modelled: operand-dependent times (division, long multiplication on
M3), flash wait states and caches, loads that fail to pipeline because of their alignment.

The result depends only on how often instructions were executed and branches were taken, not
on where an emulator splits its blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from zeroskip import elf
from zeroskip.boards import Pipeline, Timing
from zeroskip.emulation.profile import Region
from zeroskip.emulation.scoreboard import ScoreboardModel
from zeroskip.emulation.thumb import Decoder, Instruction, Kind, halfword_count


@dataclass(frozen=True)
class Flow:
    """Counts per instruction address: executions, and branches that did not fall through."""

    executed: Counter[int]
    taken: Counter[int]
    targets: Counter[tuple[int, int]]  # (branch, target)


def model_of(image: elf.Elf, timing: Timing | Pipeline) -> CycleModel | ScoreboardModel:
    """What prices regions of a program, by the kind of table that its core has."""
    if isinstance(timing, Pipeline):
        return ScoreboardModel(image, timing)
    return CycleModel(image, timing)


class CycleModel:
    """Prices regions of one program."""

    def __init__(self, image: elf.Elf, timing: Timing) -> None:
        self._timing = timing
        self._decoder = Decoder(image)

    def cycles(self, region: Region) -> int:
        """Estimated cycles of everything counted in `region`."""
        flow = self._flow(region)
        total = 0
        run_length = 0
        previous: Instruction | None = None
        for address in sorted(flow.executed):
            instruction = self._decoder.at(address)
            count = flow.executed[address]
            total += self._own_cost(instruction, count, flow.taken[address])
            follows = previous is not None and previous.end == address
            passed = min(_falls_through(previous, flow), count) if previous and follows else 0
            if passed and previous is not None:
                total += passed * self._pair_cost(previous, instruction)
            wide_unaligned = instruction.size == 4 and address % 4 == 2
            run_length = (run_length if follows else 0) + 1 if wide_unaligned else 0
            if run_length and run_length % 3 == 0:
                total += passed * self._timing.wide_unaligned_run
            previous = instruction
        return total + self._target_cost(flow)

    def instructions(self, region: Region) -> int:
        """Executed instructions, those of an IT block whose condition failed included."""
        return sum(self._flow(region).executed.values())

    def _flow(self, region: Region) -> Flow:
        executed: Counter[int] = Counter()
        taken: Counter[int] = Counter()
        targets: Counter[tuple[int, int]] = Counter()
        last: dict[tuple[int, int], Instruction] = {}
        for (start, size), count in region.blocks.items():
            for instruction in self._decoder.block(start, size):
                executed[instruction.address] += count
                last[start, size] = instruction
        for (start, size, target), count in region.edges.items():
            if target != start + size and (start, size) in last:
                branch = last[start, size].address
                taken[branch] += count
                targets[branch, target] += count
        return Flow(executed, taken, targets)

    def _own_cost(self, i: Instruction, count: int, taken: int) -> int:
        t = self._timing
        if i.kind is Kind.BRANCH:
            if not i.conditional:
                return count * t.branch_taken
            return (count - taken) * t.branch_not_taken + taken * t.branch_taken
        cost = self._cost_of_kind[i.kind]
        if i.kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE, Kind.POP_PC):
            cost += i.registers * t.load_store_multiple_register
        if i.kind is Kind.FLOAT_LOAD_STORE:
            cost += i.registers - 1
        if i.conditional and i.kind.leaves:
            return (count - taken) * t.branch_not_taken + taken * cost
        return count * cost

    @cached_property
    def _cost_of_kind(self) -> dict[Kind, int]:
        t = self._timing
        return {
            Kind.ALU: t.alu,
            Kind.MULTIPLY: t.multiply,
            Kind.MULTIPLY_ACCUMULATE: t.multiply_accumulate,
            Kind.MULTIPLY_LONG: t.multiply_long,
            Kind.MULTIPLY_LONG_ACCUMULATE: t.multiply_long_accumulate,
            Kind.DIVIDE: t.divide,
            Kind.LOAD: t.load,
            Kind.LITERAL: t.load,
            Kind.STORE: t.store,
            Kind.STORE_REGISTER_OFFSET: t.store_register_offset,
            Kind.LOAD_DOUBLE: t.load_store_double,
            Kind.STORE_DOUBLE: t.load_store_double,
            Kind.LOAD_MULTIPLE: t.load_store_multiple_base,
            Kind.STORE_MULTIPLE: t.load_store_multiple_base,
            Kind.POP_PC: t.load_store_multiple_base + t.pop_pc_extra,
            Kind.CALL: t.call,
            Kind.BRANCH_REGISTER: t.branch_register,
            Kind.CALL_REGISTER: t.call_register,
            Kind.TABLE_BRANCH: t.table_branch,
            Kind.LOAD_PC: t.load_pc,
            Kind.WRITE_PC: t.write_pc,
            Kind.SYSTEM: t.system,
            Kind.BARRIER: t.barrier,
            Kind.IF_THEN: t.if_then,
            Kind.FLOAT: t.float_simple,
            Kind.FLOAT_MULTIPLY_ACCUMULATE: t.float_multiply_accumulate,
            Kind.FLOAT_DIVIDE: t.float_divide,
            Kind.FLOAT_LOAD_STORE: t.float_load_store,
        }

    def _pair_cost(self, first: Instruction, second: Instruction) -> int:
        """What `second` costs more, or less, for coming right after `first`."""
        t = self._timing
        if not second.kind.accesses_memory:
            return 0
        if first.kind in (Kind.LOAD, Kind.LITERAL):
            # A pipelined access overlaps the first one; STR with an immediate offset is one
            # cycle anyhow. Literals are in another memory than data.
            same_memory = (first.kind is Kind.LITERAL) == (second.kind is Kind.LITERAL)
            saves = (Kind.LOAD, Kind.LITERAL, Kind.STORE_REGISTER_OFFSET)
            if second.kind in saves and same_memory and not first.writes & second.address_uses:
                return t.load_store_after_load
            return 0
        if first.kind is Kind.STORE:
            is_load = second.kind in (Kind.LOAD, Kind.LITERAL, Kind.LOAD_MULTIPLE, Kind.POP_PC)
            return t.load_after_store if is_load else 0
        if first.kind.computes and first.writes & second.address_uses:
            return t.address_from_alu
        return 0

    def _target_cost(self, flow: Flow) -> int:
        """Refills that take longer, because a direct branch's target straddles two words."""
        extra = self._timing.wide_unaligned_target
        if extra == 0:
            return 0
        return extra * sum(
            count
            for (branch, target), count in flow.targets.items()
            if target % 4 == 2
            and self._decoder.at(branch).kind in (Kind.BRANCH, Kind.CALL)
            and self._decoder.size_at(target) == 4
        )


def count_instructions(image: elf.Elf, region: Region) -> int:
    """Executed instructions of a region, without a decoder: Thumb code shows its lengths."""
    return sum(
        count * sum(1 for _ in _lengths(image.read(start, size)))
        for (start, size), count in region.blocks.items()
    )


def _lengths(code: bytes) -> Iterator[int]:
    at = 0
    while at < len(code):
        size = 2 * halfword_count(code[at] | code[at + 1] << 8)
        yield size
        at += size


def _falls_through(instruction: Instruction, flow: Flow) -> int:
    """How often execution went on with the instruction behind this one."""
    count = flow.executed[instruction.address]
    if instruction.kind.leaves and not instruction.conditional:
        return 0
    return count - flow.taken[instruction.address]
