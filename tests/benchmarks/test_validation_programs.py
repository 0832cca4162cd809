"""Programs of others can be built on our port and counted, without any of them here."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zeroskip import boards
from zeroskip.emulation.cycles import model_of

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

PROGRAM = """
#include "validation.h"
#include "number.h"

static const int table[1024] = { 1 };

void validation_main(void)
{
    for (int turn = 0; turn < 2; turn++) {
        validation_begin();
        for (int i = 0; i < 1024 << turn; i++) {
            (void)*(const volatile int *)&table[i % 1024];
        }
        validation_end();
    }
    const int number = NUMBER;
    validation_report(&number, sizeof number);
}
"""


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from validation import programs

    yield programs
    for name in [n for n in sys.modules if n.split(".")[0] == "validation"]:
        del sys.modules[name]


@pytest.mark.tool("arm-none-eabi-gcc", "qemu-system-arm", "cc", "capstone")
@pytest.mark.parametrize("board", ["nucleo-l4r5zi", "raspberry-pi-pico", "mps3-an547"])
def test_regions_are_counted_apart(programs: Any, board: str, tmp_path: Path) -> None:
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    program = programs.Program([source], [], [], ["-O2"],
                               {"number.h": "#define NUMBER 0x5eed\n"})  # fmt: skip
    described = replace(boards.load(board), flash_timing=boards.load("nucleo-l4r5zi").flash_timing)
    counted = programs.count(program, described)
    assert counted.report == (0x5EED).to_bytes(4, "little")
    assert described.core.timing is not None
    model = model_of(counted.image, described.core.timing)
    once, twice = (model.cycles(counted.profile[region]) for region in (1, 2))
    assert 4_000 < twice - once < 12_000
    waits = counted.profile[1].waits
    assert 1024 <= waits.loads < 1034 and 512 <= waits.load_misses < 517
