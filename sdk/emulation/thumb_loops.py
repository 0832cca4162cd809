"""What Armv8.1-M adds to Thumb for all programs, and Capstone 5 does not know: low-overhead loops
and conditional selects (Arm DDI 0553, C2.4: DLS, WLS, LE, CSEL, CSINC, CSINV, CSNEG).

Capstone takes the selects for ORRS, so they have to be looked for first. Helium, and what else
needs it, is not here: firmware is compiled without (boards/cores/cortex-m55.toml).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

_NOTHING: Final = 15  # read as zero by selects; no count for LE
_LINK: Final = 14


class Extension(Enum):
    SELECT = auto()
    LOOP_START = auto()  # DLS
    LOOP_START_OR_SKIP = auto()  # WLS
    LOOP_END = auto()


def extension(first: int, second: int) -> tuple[Extension, tuple[int, ...], tuple[int, ...]] | None:
    """The kind of such an instruction by its halfwords, the core registers that it reads, and that
    it writes; None for any other."""
    register = first & 0xF
    if first & 0xFFF0 == 0xEA50 and second & 0xC000 == 0x8000:
        reads = tuple(r for r in (register, second & 0xF) if r != _NOTHING)
        return Extension.SELECT, reads, (second >> 8 & 0xF,)
    if first & 0xFFF0 == 0xF040 and second == 0xE001:
        return Extension.LOOP_START, (register,), (_LINK,)
    if second & 0xF001 == 0xC001:
        if first == 0xF00F:
            return Extension.LOOP_END, (_LINK,), (_LINK,)
        if first == 0xF02F:  # without a count: the branch alone
            return Extension.LOOP_END, (), ()
        if first & 0xFFF0 == 0xF040:
            return Extension.LOOP_START_OR_SKIP, (register,), (_LINK,)
    return None
