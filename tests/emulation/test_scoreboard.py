"""The pipelines of Cortex-M33 and M7 on short sequences, by the rules that their tables cite."""

from collections import Counter
from pathlib import Path

import pytest
from assembled import BASE, assemble

from zeroskip import boards
from zeroskip.boards import Pipeline
from zeroskip.emulation.profile import PythonTrace, Region
from zeroskip.emulation.scoreboard import ScoreboardModel

pytestmark = pytest.mark.tool("arm-none-eabi-gcc")


def price(folder: Path, core: str, text: str, region: Region | None = None) -> int:
    image = assemble(folder, core, text)
    pipeline = boards.load_core(core).timing
    assert isinstance(pipeline, Pipeline)
    if region is None:
        region = Region(Counter({(BASE, len(image.segments[0].data)): 1}))
    return ScoreboardModel(image, pipeline).cycles(region)


STRAIGHT = [
    # jnk0le/random, cortex_m33.md: one a cycle, results of shifts on the way and of multiplies
    # a cycle later, of loads two cycles after their issue
    ("cortex-m33", "add.w r0, r1, r2; add.w r3, r0, r1", 2),
    ("cortex-m33", "add.w r0, r1, r2, lsl #3; add.w r3, r0, r1", 3),
    ("cortex-m33", "mul r0, r1, r2; add.w r3, r0, r1", 3),
    ("cortex-m33", "mla r0, r1, r2, r0; mla r0, r3, r4, r0", 2),
    ("cortex-m33", "ldr.w r0, [r1]; add.w r2, r0, r0", 3),
    ("cortex-m33", "ldr.w r0, [r1]; add.w r3, r1, r1; add.w r2, r0, r0", 3),
    ("cortex-m33", "ldr.w r0, [r1]; mla r0, r2, r3, r0", 2),
    ("cortex-m33", "ldr.w r0, [r1]; str.w r0, [r2]", 2),
    ("cortex-m33", "ldmia.w r0, {r1, r2, r3, r4}; nop.w", 5),
    ("cortex-m33", "ldrd r2, r3, [r0]; nop.w", 3),
    ("cortex-m33", "muls r0, r1; nop.w", 3),
    # cortex_m7.md: pairs; early results go to a late ALU in the same cycle
    ("cortex-m7", "add.w r0, r1, r2; add.w r3, r4, r5", 1),
    ("cortex-m7", "add.w r0, r1, r2; eor.w r3, r0, r5", 1),
    ("cortex-m7", "eor.w r0, r1, r2; eor.w r3, r0, r5; nop.w; nop.w; nop.w", 3),
    ("cortex-m7", "mul r0, r1, r2; mul r3, r4, r5; nop.w", 2),
    ("cortex-m7", "uxtb.w r0, r1; uxtb.w r2, r3; nop.w", 2),
    ("cortex-m7", "ldr.w r0, [r1]; ldr.w r2, [r3]", 1),
    ("cortex-m7", "ldr.w r0, [r1]; nop.w; add.w r2, r0, r0; nop.w", 2),
    ("cortex-m7", "ldrb.w r0, [r1]; nop.w; add.w r2, r0, r0; nop.w", 3),
    ("cortex-m7", "ldr.w r0, [r1]; nop.w; ldr.w r2, [r0]; nop.w", 4),
    ("cortex-m7", "mul r0, r1, r2; str.w r3, [r4]; nop.w", 2),
    # llvm ARMScheduleM55.td: two of 16 bits, one of which is light, and none that needs the other
    ("cortex-m55", "adds r0, #1; lsls r1, r2, #2", 1),
    ("cortex-m55", "lsls r1, r2, #2; adds r0, #1", 1),
    ("cortex-m55", "lsls r1, r2, #2; ands r3, r4", 2),
    ("cortex-m55", "adds r0, #1; ands r0, r4", 2),
    ("cortex-m55", "adds.w r0, r0, #1; lsls r1, r2, #2", 2),
    ("cortex-m55", "ldr r0, [r1]; uxtb r2, r3; adds r4, r0, r5", 3),
    ("cortex-m55", "mla r0, r1, r2, r0; mla r0, r3, r4, r0; nop.w", 4),
    ("cortex-m55", "ldrd r2, r3, [r0]; nop.w", 2),
    ("cortex-m55", "csel r0, r1, r2, eq; add.w r3, r0, r1", 2),
    ("cortex-m55", "mul r1, r2, r3; csel r0, r1, r2, eq; nop.w", 4),
]


@pytest.mark.parametrize(("core", "text", "expected"), STRAIGHT)
def test_straight_code(core: str, text: str, expected: int, tmp_path: Path) -> None:
    assert price(tmp_path, core, text) == expected


LOOPS = [
    # A taken branch of 16 bits costs two cycles behind what sets flags, one behind what does
    # not, and none where it is not taken (cortex_m33.md).
    ("cortex-m33", "1: subs r7, #1; bne 1b", 3),
    ("cortex-m33", "1: subs r7, #1; add r0, r1; bne 1b", 3 - 1),
    ("cortex-m33", "1: subs.w r7, r7, #1; bne.w 1b", 3),
    # The result of a load goes around the loop.
    ("cortex-m33", "1: add.w r1, r0, r0; ldr.w r0, [r2]; bne.w 1b", 4),
    # A low-overhead loop branches for nothing; other branches take three cycles, two in a pair.
    ("cortex-m55", "1: add.w r0, r0, r1; le lr, 1b", 1),
    ("cortex-m55", "1: subs.w r7, r7, #1; bne.w 1b", 4),
    ("cortex-m55", "1: subs.w r7, r7, #1; add r0, r1; bne 1b", 3),
    ("cortex-m7", "1: subs.w r7, r7, #1; bne.w 1b", 1),
    ("cortex-m7", "1: mla r0, r1, r2, r0; mla r3, r1, r2, r3; subs.w r7, r7, #1; bne.w 1b", 3),
]


@pytest.mark.parametrize(("core", "text", "each"), LOOPS)
def test_loops(core: str, text: str, each: int, tmp_path: Path) -> None:
    size = len(assemble(tmp_path, core, text).segments[0].data)
    often = Region(Counter({(BASE, size): 1001}), Counter({(BASE, size, BASE): 1000}))
    once = Region(Counter({(BASE, size): 1}))
    assert price(tmp_path, core, text, often) - price(tmp_path, core, text, once) == 1000 * each


def test_branches_that_are_not_foreseen_cost_more(tmp_path: Path) -> None:
    text = "1: subs.w r7, r7, #1; bne.w 1b"
    size = len(assemble(tmp_path, "cortex-m7", text).segments[0].data)
    foreseen = Region(Counter({(BASE, size): 10}), Counter({(BASE, size, BASE): 9}))
    missed = Region(foreseen.blocks, foreseen.edges, Counter({(BASE, size): 4}))
    pipeline = boards.load_core("cortex-m7").timing
    assert isinstance(pipeline, Pipeline) and pipeline.mispredicted > 0
    difference = price(tmp_path, "cortex-m7", text, missed) - price(
        tmp_path, "cortex-m7", text, foreseen
    )
    assert difference == 4 * pipeline.mispredicted


def test_two_bits_foresee_a_loop_but_for_its_start_and_end() -> None:
    from zeroskip.emulation.profile import Marks

    trace = PythonTrace(Marks(run=0x10, op=0x20, op_end=0x30, between=0x40, stop=0x50))
    trace.enter(0x10, 2)
    for _ in range(20):  # twenty times around a loop of ten
        for _ in range(10):
            trace.enter(0x100, 4)
        trace.enter(0x104, 4)
    missed = trace.profile[0].mispredicted
    assert missed[0x100, 4] == 2 + 20  # two to learn, then the end of each
