"""What Armv8.1-M adds to Thumb, as the assembler writes it."""

from pathlib import Path

import pytest
from assembled import BASE, assemble

from zeroskip.emulation.thumb import Decoder, Kind

pytestmark = pytest.mark.tool("arm-none-eabi-gcc", "capstone")

CASES = [
    ("csel r0, r1, r2, eq", Kind.ALU, {"r1", "r2"}, {"r0"}),
    ("csinc r3, r4, r5, ne", Kind.ALU, {"r4", "r5"}, {"r3"}),
    ("csinv r6, r7, r8, lt", Kind.ALU, {"r7", "r8"}, {"r6"}),
    ("csneg r9, r10, r11, gt", Kind.ALU, {"r10", "r11"}, {"r9"}),
    ("cset r12, eq", Kind.ALU, set(), {"r12"}),
    ("dls lr, r4", Kind.ALU, {"r4"}, {"lr"}),
    ("wls lr, r3, 1f", Kind.BRANCH, {"r3"}, {"lr"}),
    ("1: le lr, 1b", Kind.LOOP_END, {"lr"}, {"lr"}),
    ("1: le 1b", Kind.LOOP_END, set(), set()),
    ("orrs.w r0, r1, r2", Kind.ALU, {"r1", "r2"}, {"r0"}),
]


@pytest.mark.parametrize(("text", "kind", "reads", "writes"), CASES)
def test_decoding(text: str, kind: Kind, reads: set[str], writes: set[str], tmp_path: Path) -> None:
    # The neighbours have to be decoded, too.
    image = assemble(tmp_path, "cortex-m55", f"nop; {text}; adds r0, #1; 1:")
    size = len(image.segments[0].data)
    before, found, after = Decoder(image).block(BASE, size)
    assert (before.size, after.size, after.kind) == (2, 2, Kind.ALU)
    assert (found.address, found.size, found.kind) == (BASE + 2, 4, kind)
    assert found.reads == numbers(reads) and found.writes == numbers(writes)
    assert found.conditional == (kind is not Kind.ALU)


def numbers(names: set[str]) -> frozenset[int]:
    from capstone import arm_const

    return frozenset(getattr(arm_const, f"ARM_REG_{name.upper()}") for name in names)
