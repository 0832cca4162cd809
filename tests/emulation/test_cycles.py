"""The cycle model on short sequences, against cycles worked out by hand from the manuals.

Each case is a straight run of instructions executed once, a loop, or a branch: how often what
was executed is given, so that the expected number is a sum over the Technical Reference
Manual's table. "TRM example" marks sums that the manual itself states (DDI 0337I, page 3-9).
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from assembled import BASE, assemble
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip import boards, elf
from zeroskip.emulation.cycles import CycleModel, count_instructions
from zeroskip.emulation.profile import Region
from zeroskip.errors import EmulationError, FormatError

pytestmark = pytest.mark.tool("arm-none-eabi-gcc")


def straight(image: elf.Elf, count: int = 1) -> Region:
    """Every byte of the code executed `count` times as one block."""
    size = len(image.segments[0].data)
    return Region(Counter({(BASE, size): count}), Counter())


def cycles(image: elf.Elf, core: str, region: Region) -> int:
    timing = boards.load_core(core).timing
    assert timing is not None
    return CycleModel(image, timing).cycles(region)


STRAIGHT = [
    # ALU and multiply
    ("cortex-m4", "adds r0, r1, r2; movs r3, #1; eors r0, r3", 3),
    ("cortex-m4", "mul r0, r1, r2; mla r0, r1, r2, r3; smlad r0, r1, r2, r3", 3),
    ("cortex-m3", "mul r0, r1, r2; mla r0, r1, r2, r3", 1 + 2),
    ("cortex-m4", "umull r0, r1, r2, r3; smlal r0, r1, r2, r3", 2),
    ("cortex-m3", "umull r0, r1, r2, r3; smlal r0, r1, r2, r3", 4 + 6),
    ("cortex-m4", "udiv r0, r1, r2", 6),
    ("cortex-m0", "adds r0, r1, r2; muls r0, r1; lsls r0, r0, #3", 3),
    # TRM examples, DDI 0337I page 3-9
    ("cortex-m3", "ldr r0, [r1]; ldr r1, [r2]", 3),
    ("cortex-m3", "ldr r0, [r1, r2]; str r0, [r3, #20]", 3),
    ("cortex-m3", "ldr r0, [r1, r2]; str r1, [r3, r2]", 3),
    ("cortex-m3", "ldr r0, [r1, r5]; ldr r1, [r2]; ldr r2, [r3, #4]", 4),
    ("cortex-m4", "ldr r0, [r1]; ldr r1, [r2]", 3),
    ("cortex-m4", "str r0, [r1, #4]", 1),
    # an address that depends on the load before it is not pipelined
    ("cortex-m4", "ldr r0, [r1]; ldr r2, [r0]", 4),
    ("cortex-m4", "ldr r0, [r1], #4; ldr r2, [r1]", 4),
    # an address that depends on the ALU stalls one cycle
    ("cortex-m4", "adds r1, r1, r2; ldr r0, [r1]", 1 + 2 + 1),
    ("cortex-m4", "adds r3, r1, r2; ldr r0, [r1]", 1 + 2),
    ("cortex-m0", "adds r1, r1, r2; ldr r0, [r1]", 1 + 2),
    # stores: nothing is pipelined after one
    ("cortex-m4", "str r0, [r1]; ldr r2, [r3]", 1 + 1 + 2),
    ("cortex-m4", "str r0, [r1, r4]; adds r2, r2, #1", 2 + 1),
    ("cortex-m4", "str r0, [r1]; str r2, [r3]", 2),
    # literals are in another memory than data
    ("cortex-m4", "ldr r0, [pc, #4]; ldr r1, [r2]; nop; nop", 2 + 2 + 2),
    ("cortex-m4", "ldr r0, [pc, #4]; ldr r1, [pc, #4]; nop; nop", 2 + 1 + 2),
    # multiple transfers: 1 + N
    ("cortex-m4", "ldmia r0!, {r1, r2, r3}", 4),
    ("cortex-m4", "stmia r0!, {r1, r2, r3, r4}", 5),
    ("cortex-m4", "push {r4, r5, r6, lr}; pop {r4, r5}", 5 + 3 + 0),
    ("cortex-m4", "ldrd r0, r1, [r2]; strd r0, r1, [r3]", 3 + 3),
    ("cortex-m0plus", "push {r4, lr}; pop {r4}", 3 + 2),
    ("cortex-m0", "ldr r0, [r1]; strb r0, [r2]; ldrh r3, [r2, #2]", 6),
    # returns
    ("cortex-m0", "pop {r4, r5, pc}", 4 + 2),
    ("cortex-m0plus", "pop {r4, r5, pc}", 3 + 2),
    ("cortex-m4", "pop {r4, r5, pc}", 1 + 3 + 3),
    ("cortex-m4", "pop.w {r4, r5, r8, pc}", 1 + 4 + 3),
    ("cortex-m4", "ldr pc, [sp], #4", 5),
    ("cortex-m0", "bx lr", 3),
    ("cortex-m0plus", "bx lr", 2),
    ("cortex-m4", "bx lr", 3),
    ("cortex-m0", "blx r3", 3),
    ("cortex-m0plus", "blx r3", 2),
    ("cortex-m4", "tbb [pc, r0]", 5),
    # conditional execution
    ("cortex-m4", "ite eq; moveq r0, r1; movne r0, r2", 3),
    # system
    ("cortex-m0", "mrs r0, primask; dsb", 8),
    ("cortex-m0plus", "mrs r0, primask; dsb", 6),
    # floating point, DDI 0439B table 7-1
    ("cortex-m4", "vadd.f32 s0, s1, s2; vmul.f32 s0, s1, s2; vmov r0, s0", 3),
    ("cortex-m4", "vmla.f32 s0, s1, s2", 3),
    ("cortex-m4", "vfma.f32 s0, s1, s2; vdiv.f32 s0, s1, s2; vsqrt.f32 s0, s1", 3 + 14 + 14),
    ("cortex-m4", "vldr s0, [r0]; vstr s0, [r0]", 4),
    ("cortex-m4", "vldmia r0!, {s0-s3}", 5),
    ("cortex-m4", "vpush {d8, d9}", 5),
    # fetch: the third 32-bit instruction in a row at halfword addresses waits
    ("cortex-m4", "nop; add.w r0, r1, r2; add.w r0, r1, r2", 3),
    ("cortex-m4", "nop; add.w r0, r1, r2; add.w r0, r1, r2; add.w r0, r1, r2", 4 + 1),
    ("cortex-m4", "add.w r0, r1, r2; add.w r0, r1, r2; add.w r0, r1, r2", 3),
]


@pytest.mark.parametrize(("core", "text", "expected"), STRAIGHT)
def test_straight_code(core: str, text: str, expected: int, tmp_path: Path) -> None:
    image = assemble(tmp_path, core, text)
    assert cycles(image, core, straight(image)) == expected
    assert cycles(image, core, straight(image, 7)) == 7 * expected


LOOPS = [
    # Nordic's delay loop: 4 cycles on M0, 3 on M4 (nrfx_coredep_delay_us)
    ("cortex-m0", "1: subs r0, r0, #1; bne 1b", 4, 2),
    ("cortex-m0plus", "1: subs r0, r0, #1; bne 1b", 3, 2),
    ("cortex-m3", "1: subs r0, r0, #1; bne 1b", 3, 2),
    ("cortex-m4", "1: subs r0, r0, #1; bne 1b", 3, 2),
    # a copy loop; nothing is pipelined across the taken branch
    ("cortex-m4", "1: ldrb r3, [r1], #1; strb r3, [r0], #1; subs r2, r2, #1; bne 1b", 6, 5),
    ("cortex-m0plus", "1: ldrb r3, [r1]; strb r3, [r0]; subs r2, r2, #1; bne 1b", 7, 6),
]


@pytest.mark.parametrize(("core", "text", "around", "last"), LOOPS)
def test_loops(core: str, text: str, around: int, last: int, tmp_path: Path) -> None:
    image = assemble(tmp_path, core, text)
    size = len(image.segments[0].data)
    region = Region(Counter({(BASE, size): 10}), Counter({(BASE, size, BASE): 9}))
    assert cycles(image, core, region) == 9 * around + last


@pytest.mark.parametrize(
    ("core", "call", "taken"), [("cortex-m0", 4, 3), ("cortex-m0plus", 3, 2), ("cortex-m4", 2, 2)]
)
def test_calls_and_branches(core: str, call: int, taken: int, tmp_path: Path) -> None:
    image = assemble(tmp_path, core, "bl 1f; nop; 1: b 2f; nop; 2: nop")
    blocks = Counter({(BASE, 4): 1, (BASE + 6, 2): 1, (BASE + 10, 2): 1})
    edges = Counter({(BASE, 4, BASE + 6): 1, (BASE + 6, 2, BASE + 10): 1})
    assert cycles(image, core, Region(blocks, edges)) == call + taken + 1


def test_a_branch_to_a_wide_instruction_at_a_halfword_refills_longer(tmp_path: Path) -> None:
    image = assemble(tmp_path, "cortex-m4", "b 1f; 1: add.w r0, r1, r2")
    region = Region(Counter({(BASE, 2): 1}), Counter({(BASE, 2, BASE + 2): 1}))
    assert cycles(image, "cortex-m4", region) == 2
    image = assemble(tmp_path, "cortex-m4", "b 1f; nop; nop; 1: add.w r0, r1, r2")
    region = Region(Counter({(BASE, 2): 1, (BASE + 6, 4): 1}), Counter({(BASE, 2, BASE + 6): 1}))
    assert cycles(image, "cortex-m4", region) == 2 + 1 + 1


def test_a_conditional_return(tmp_path: Path) -> None:
    image = assemble(tmp_path, "cortex-m4", "it eq; bxeq lr; nop")
    region = Region(
        Counter({(BASE, 4): 10, (BASE + 4, 2): 7}),
        Counter({(BASE, 4, 0x2000): 3, (BASE, 4, BASE + 4): 7}),
    )
    assert cycles(image, "cortex-m4", region) == 10 + 3 * 3 + 7 * 1 + 7


def test_cbz_taken_and_not(tmp_path: Path) -> None:
    image = assemble(tmp_path, "cortex-m4", "cbz r0, 1f; nop; nop; 1: nop")
    region = Region(
        Counter({(BASE, 2): 5, (BASE + 2, 4): 3, (BASE + 6, 2): 5}),
        Counter({(BASE, 2, BASE + 6): 2, (BASE, 2, BASE + 2): 3, (BASE + 2, 4, BASE + 6): 3}),
    )
    assert cycles(image, "cortex-m4", region) == 3 * 1 + 2 * 2 + 6 + 5


CODE = (
    "ldr r0, [r1]; ldr r2, [r3]; str r2, [r4]; ldr r5, [r6]; add.w r0, r1, r2; add.w r1, r1, r2;"
    "add.w r7, r1, r2; ldr r0, [r7]; nop; mla r0, r1, r2, r3; ldr r1, [pc, #0]; nop"
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cuts=st.sets(st.integers(1, 11)), count=st.integers(1, 1000))
def test_where_blocks_are_split_does_not_matter(
    cuts: set[int], count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = assemble(tmp_path_factory.mktemp("code"), "cortex-m4", CODE)
    whole = straight(image, count)
    timing = boards.load_core("cortex-m4").timing
    assert timing is not None
    model = CycleModel(image, timing)
    size = len(image.segments[0].data)
    starts = [i.address for i in model._decoder.block(BASE, size)]
    bounds = [BASE, *sorted(starts[c] for c in cuts), BASE + size]
    pieces = [(a, b - a) for a, b in pairwise(bounds)]
    split = Region(
        Counter({piece: count for piece in pieces}),
        Counter({(a, n, a + n): count for a, n in pieces[:-1]}),
    )
    assert model.cycles(split) == model.cycles(whole)
    assert model.instructions(split) == model.instructions(whole) == 12 * count
    assert count_instructions(image, split) == 12 * count


def test_code_that_cannot_be_decoded(tmp_path: Path) -> None:
    image = assemble(tmp_path, "cortex-m4", ".hword 0xffff, 0xffff")
    with pytest.raises(EmulationError, match="cannot decode the 4 bytes of code at 0x00001000"):
        cycles(image, "cortex-m4", straight(image))
    with pytest.raises(FormatError, match="holds no"):
        cycles(image, "cortex-m4", Region(Counter({(0x9000, 2): 1}), Counter()))
