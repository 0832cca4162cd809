"""Thumb instructions as the cycle model sees them: a class, what is read, what is written.

Decoding is Capstone's, but for thumb_loops.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from importlib import import_module
from typing import Any

from zeroskip import elf
from zeroskip.emulation.thumb_loops import Extension, extension
from zeroskip.errors import EmulationError, MissingToolError


class Kind(Enum):
    """Classes of instructions that differ in timing."""

    ALU = auto()
    MULTIPLY = auto()
    MULTIPLY_ACCUMULATE = auto()
    MULTIPLY_LONG = auto()
    MULTIPLY_LONG_ACCUMULATE = auto()
    DIVIDE = auto()
    LOAD = auto()
    LITERAL = auto()
    STORE = auto()
    STORE_REGISTER_OFFSET = auto()
    LOAD_DOUBLE = auto()
    STORE_DOUBLE = auto()
    LOAD_MULTIPLE = auto()
    STORE_MULTIPLE = auto()
    POP_PC = auto()
    BRANCH = auto()
    CALL = auto()
    BRANCH_REGISTER = auto()
    CALL_REGISTER = auto()
    TABLE_BRANCH = auto()
    LOAD_PC = auto()
    WRITE_PC = auto()
    SYSTEM = auto()
    BARRIER = auto()
    IF_THEN = auto()
    LOOP_END = auto()
    FLOAT = auto()
    FLOAT_MULTIPLY_ACCUMULATE = auto()
    FLOAT_DIVIDE = auto()
    FLOAT_LOAD_STORE = auto()

    @property
    def leaves(self) -> bool:
        """Whether it writes the program counter."""
        return self in _LEAVING

    @property
    def accesses_memory(self) -> bool:
        return self in _MEMORY

    @property
    def computes(self) -> bool:
        """Whether it writes core registers from the ALU or multiplier."""
        return self in _COMPUTING


_LEAVING = frozenset(
    {
        Kind.BRANCH, Kind.CALL, Kind.BRANCH_REGISTER, Kind.CALL_REGISTER, Kind.TABLE_BRANCH,
        Kind.LOAD_PC, Kind.WRITE_PC, Kind.POP_PC, Kind.LOOP_END,
    }
)  # fmt: skip
_MEMORY = frozenset(
    {
        Kind.LOAD, Kind.LITERAL, Kind.STORE, Kind.STORE_REGISTER_OFFSET, Kind.LOAD_DOUBLE,
        Kind.STORE_DOUBLE, Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE, Kind.POP_PC, Kind.LOAD_PC,
        Kind.FLOAT_LOAD_STORE,
    }
)  # fmt: skip
_COMPUTING = frozenset(
    {
        Kind.ALU, Kind.MULTIPLY, Kind.MULTIPLY_ACCUMULATE, Kind.MULTIPLY_LONG,
        Kind.MULTIPLY_LONG_ACCUMULATE, Kind.DIVIDE,
    }
)  # fmt: skip


class Unit(Enum):
    """What pipelines tell apart among the instructions that are ALU to the additive tables."""

    ARITHMETIC = "arithmetic"  # additions, subtractions, moves and comparisons
    LOGIC = "logic"
    SHIFT = "shift"
    SHIFTED = "shifted"  # an operand is shifted on the way
    BITFIELD = "bitfield"  # extraction, insertion, extension, reversal
    MULTIPLY = "multiply"  # of halves and of pairs of them
    DSP = "dsp"  # parallel and saturating arithmetic, packing, extension with addition


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction.

    `registers` is the length of a multiple transfer's list, in words. `writes`, `reads` and
    `address_uses` are registers, as Capstone numbers them: what it writes, what it reads, and of
    that what its address is computed from; `accumulator` is the one that a multiply-accumulate
    adds to, `early` those that are shifted or taken apart first. `part` says that a load is of
    less than a word; `light`, that it adds or subtracts a constant, moves or extends, in 16 bits.
    """

    address: int
    size: int
    kind: Kind
    conditional: bool = False
    registers: int = 0
    writes: frozenset[int] = frozenset()
    address_uses: frozenset[int] = frozenset()
    reads: frozenset[int] = frozenset()
    early: frozenset[int] = frozenset()
    accumulator: frozenset[int] = frozenset()
    unit: Unit = Unit.ARITHMETIC
    sets_flags: bool = False
    part: bool = False
    light: bool = False

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.address + self.size


def halfword_count(first: int) -> int:
    """Length of the instruction that begins with this halfword (Armv7-M ARM, A5.1)."""
    return 2 if first >> 11 in (0b11101, 0b11110, 0b11111) else 1


class Decoder:
    """Decodes a program's code, each instruction once."""

    def __init__(self, image: elf.Elf) -> None:
        try:
            capstone: Any = import_module("capstone")
            arm_const: Any = import_module("capstone.arm_const")
        except ImportError as error:
            raise MissingToolError(
                "cycle estimates need Capstone (pip install 'zeroskip[emulate]')"
            ) from error
        self._image = image
        self._reader = capstone.Cs(
            capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS
        )
        self._reader.detail = True
        self._classes = _classes(arm_const)
        self._names = arm_const
        self._memory_operand = arm_const.ARM_OP_MEM
        self._known: dict[int, Instruction] = {}
        self._blocks: dict[tuple[int, int], tuple[Instruction, ...]] = {}

    def at(self, address: int) -> Instruction:
        """An instruction of a block seen before."""
        return self._known[address]

    def size_at(self, address: int) -> int:
        """Bytes of the instruction at any address of the program."""
        code = self._image.read(address, 2)
        return 2 * halfword_count(code[0] | code[1] << 8)

    def block(self, start: int, size: int) -> tuple[Instruction, ...]:
        """The instructions of the `size` bytes at `start`. Raises EmulationError."""
        if (start, size) not in self._blocks:
            code = self._image.read(start, size)
            decoded = tuple(self._decode(code, start))
            if sum(i.size for i in decoded) != size:
                raise EmulationError(f"cannot decode the {size} bytes of code at {start:#010x}")
            self._blocks[start, size] = decoded
            for instruction in decoded:
                # The first sight counts: a block that starts inside an IT block lacks its IT.
                self._known.setdefault(instruction.address, instruction)
        return self._blocks[start, size]

    def _decode(self, code: bytes, start: int) -> Iterator[Instruction]:
        """As far as it can be decoded."""
        at = plain = 0  # behind the last instruction of thumb_loops.py
        while at + 2 <= len(code):
            first = code[at] | code[at + 1] << 8
            size = 2 * halfword_count(first)
            found = None
            if size == 4 and at + 4 <= len(code):
                found = extension(first, code[at + 2] | code[at + 3] << 8)
            if found is not None:
                yield from self._plain(code[plain:at], start + plain)
                yield self._extension(start + at, *found)
                plain = at + 4
            at += size
        yield from self._plain(code[plain:], start + plain)

    def _plain(self, code: bytes, start: int) -> Iterator[Instruction]:
        return (self._classify(i) for i in self._reader.disasm(code, start))

    def _extension(
        self, address: int, found: Extension, reads: tuple[int, ...], writes: tuple[int, ...]
    ) -> Instruction:
        kind, conditional = {
            Extension.SELECT: (Kind.ALU, False),
            Extension.LOOP_START: (Kind.ALU, False),
            Extension.LOOP_START_OR_SKIP: (Kind.BRANCH, True),
            Extension.LOOP_END: (Kind.LOOP_END, True),
        }[found]
        return Instruction(
            address, 4, kind, conditional,
            reads=frozenset(self._register(r) for r in reads),
            writes=frozenset(self._register(r) for r in writes),
        )  # fmt: skip

    def _register(self, number: int) -> int:
        """Capstone's number of a core register."""
        special = {13: "SP", 14: "LR", 15: "PC"}
        found: int = getattr(self._names, f"ARM_REG_{special.get(number, f'R{number}')}")
        return found

    def _classify(self, raw: Any) -> Instruction:
        names = self._names
        kind = self._classes.get(raw.id, Kind.ALU)
        mnemonic = raw.mnemonic
        read, written = raw.regs_access()
        writes = frozenset(r for r in written if r != names.ARM_REG_CPSR)
        memory = [o.mem for o in raw.operands if o.type == self._memory_operand]
        uses = {r for m in memory for r in (m.base, m.index) if r}
        registers = 0
        if raw.id not in self._classes and mnemonic.startswith("v"):
            kind = Kind.FLOAT
        if kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE):
            stack = raw.id in _stack_ids(names)
            listed = raw.operands if stack else raw.operands[1:]
            registers = sum(_words(raw, o) for o in listed)
            uses = {names.ARM_REG_SP} if stack else {raw.operands[0].reg}
            if kind is Kind.LOAD_MULTIPLE and names.ARM_REG_PC in writes:
                kind = Kind.POP_PC
        elif kind is Kind.LOAD:
            if names.ARM_REG_PC in writes:
                kind = Kind.LOAD_PC
            elif names.ARM_REG_PC in uses:
                kind = Kind.LITERAL
        elif kind is Kind.STORE and any(m.index for m in memory):
            kind = Kind.STORE_REGISTER_OFFSET
        elif kind is Kind.FLOAT_LOAD_STORE:
            registers = _words(raw, raw.operands[0])
        elif kind is Kind.ALU and names.ARM_REG_PC in writes:
            kind = Kind.WRITE_PC
        compare_and_branch = raw.id in (names.ARM_INS_CBZ, names.ARM_INS_CBNZ)
        always = raw.cc in (names.ARM_CC_AL, names.ARM_CC_INVALID)
        unit, early = _unit(raw, names)
        accumulator: set[int] = set()
        name = raw.insn_name()
        if kind is Kind.MULTIPLY_LONG_ACCUMULATE or name.startswith(("smlal", "smlsl")):
            accumulator = {o.reg for o in raw.operands[:2]}
        elif kind is Kind.MULTIPLY_ACCUMULATE or name.startswith(("smla", "smls", "smmla")):
            accumulator = {raw.operands[-1].reg}
        elif kind is Kind.FLOAT_MULTIPLY_ACCUMULATE:
            accumulator = {raw.operands[0].reg}
        return Instruction(
            address=raw.address,
            size=raw.size,
            kind=kind,
            conditional=(compare_and_branch or not always) and kind is not Kind.IF_THEN,
            registers=registers,
            writes=writes,
            address_uses=frozenset(uses - {names.ARM_REG_PC}),
            reads=frozenset(r for r in read if r not in (names.ARM_REG_CPSR, names.ARM_REG_PC)),
            early=early if kind is Kind.ALU else frozenset(),
            accumulator=frozenset(accumulator),
            unit=unit,
            sets_flags=names.ARM_REG_CPSR in written or bool(raw.update_flags),
            part=name[:4] in ("ldrb", "ldrh", "ldrs"),
            light=raw.size == 2 and _is_light(raw, names),
        )


_SHIFTS = frozenset("asr lsl lsr ror rrx".split())
_BITFIELD = frozenset(
    "bfc bfi sbfx ubfx rbit rev rev16 revsh clz sxtb sxth uxtb uxth sxtb16 uxtb16".split()
)
_ARITHMETIC = frozenset("add addw adr sub subw mov movw movt cmp cmn rsb adc sbc".split())
_DSP = re.compile(r"(pkh|[qsu]+h?(add|sub|asx|sax)|[su]xta|q?d?(add|sub)|[su]sat|sel|usad)")


def _unit(raw: Any, names: Any) -> tuple[Unit, frozenset[int]]:
    """The unit of an ALU instruction and the registers that it shifts or takes apart."""
    name = raw.insn_name()
    sources = [o for o in raw.operands[1:] if o.type == names.ARM_OP_REG]
    shifted = frozenset(o.reg for o in sources if o.shift.type != names.ARM_SFT_INVALID)
    if name in _SHIFTS:
        return Unit.SHIFT, frozenset()
    if name in _BITFIELD:
        return Unit.BITFIELD, frozenset(o.reg for o in sources)
    if name in _ARITHMETIC or name in ("and", "orr", "eor", "bic", "orn", "mvn", "tst", "teq"):
        if shifted:
            return (Unit.SHIFT, frozenset()) if name == "mov" else (Unit.SHIFTED, shifted)
        return (Unit.ARITHMETIC if name in _ARITHMETIC else Unit.LOGIC), frozenset()
    if name.startswith(("smla", "smls", "smul", "smua", "smus", "smml", "smmu")):
        return Unit.MULTIPLY, frozenset()
    if _DSP.match(name):
        return Unit.DSP, frozenset(o.reg for o in sources[-1:])
    return Unit.LOGIC, frozenset()


def _is_light(raw: Any, names: Any) -> bool:
    name = raw.insn_name()
    if name in ("add", "sub"):
        on_stack = any(
            o.type == names.ARM_OP_REG and o.reg == names.ARM_REG_SP for o in raw.operands
        )
        return raw.operands[-1].type == names.ARM_OP_IMM and not on_stack
    return name in ("mov", "uxtb", "uxth", "sxtb", "sxth")


def _words(raw: Any, operand: Any) -> int:
    """Words that a register of a transfer takes: d registers have two."""
    return 2 if raw.reg_name(operand.reg).startswith("d") else 1


def _stack_ids(names: Any) -> tuple[int, ...]:
    return (names.ARM_INS_PUSH, names.ARM_INS_POP, names.ARM_INS_VPUSH, names.ARM_INS_VPOP)


def _classes(names: Any) -> dict[int, Kind]:
    """Capstone's instruction ids by class; what is missing is ALU, or FLOAT if it starts with v."""
    members = {
        Kind.MULTIPLY: "MUL",
        Kind.MULTIPLY_ACCUMULATE: "MLA MLS",
        Kind.MULTIPLY_LONG: "UMULL SMULL",
        Kind.MULTIPLY_LONG_ACCUMULATE: "UMLAL SMLAL UMAAL",
        Kind.DIVIDE: "SDIV UDIV",
        Kind.LOAD: "LDR LDRB LDRH LDRSB LDRSH LDRT LDRBT LDRHT LDRSBT LDRSHT LDREX LDREXB LDREXH",
        Kind.STORE: "STR STRB STRH STRT STRBT STRHT STREX STREXB STREXH",
        Kind.LOAD_DOUBLE: "LDRD",
        Kind.STORE_DOUBLE: "STRD",
        Kind.LOAD_MULTIPLE: "LDM LDMDB POP VLDMIA VLDMDB VPOP",
        Kind.STORE_MULTIPLE: "STM STMDB PUSH VSTMIA VSTMDB VPUSH",
        Kind.BRANCH: "B CBZ CBNZ",
        Kind.CALL: "BL",
        Kind.BRANCH_REGISTER: "BX",
        Kind.CALL_REGISTER: "BLX",
        Kind.TABLE_BRANCH: "TBB TBH",
        Kind.SYSTEM: "MRS MSR CPS",
        Kind.BARRIER: "DSB DMB ISB",
        Kind.IF_THEN: "IT",
        Kind.FLOAT_MULTIPLY_ACCUMULATE: "VMLA VMLS VFMA VFMS VNMLA VNMLS VFNMA VFNMS",
        Kind.FLOAT_DIVIDE: "VDIV VSQRT",
        Kind.FLOAT_LOAD_STORE: "VLDR VSTR",
    }
    return {
        getattr(names, f"ARM_INS_{name}"): kind
        for kind, text in members.items()
        for name in text.split()
    }
