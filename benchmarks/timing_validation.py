"""The cycle models against measured programs of others.

    ZEROSKIP_VALIDATION=DIR python benchmarks/timing_validation.py [--write]

DIR holds checkouts of repositories of github.com, each under its name:

    mupq/pqm4 cc2c1b9, mupq/mupq ddccced (its submodule), eembc/coremark d5fad6b,
    mlcommons/tiny_results_v1.0 c7761cf, ARM-software/CMSIS-NN 190612d (2022-08-31, the state that
    the submission names by a commit of CMSIS_5), ARM-software/CMSIS_6 7f62ddc

Nothing of theirs is in this repository. $ZEROSKIP_DATA/models holds the .tflite models of MLPerf
Tiny. arm-none-eabi-gcc with newlib and QEMU are needed. With --write
benchmarks/timing_validation.md is replaced.
"""

from __future__ import annotations

import argparse
import os
import statistics
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from validation import networks
from validation.networks import NETWORKS, Inference, Network
from validation.programs import Counted, Program, count

from zeroskip import boards
from zeroskip.boards import Board
from zeroskip.emulation.cycles import model_of
from zeroskip.errors import InputError
from zeroskip.tools import run_tool

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = ROOT / "benchmarks" / "timing_validation.md"
ITERATIONS: Final = 20
CHECKSUMS: Final = (0xE714, 0x1FD7, 0x8E3A, 0x4983)  # of 20 iterations: list, matrix, state, all

# pqm4's benchmarks.csv at cc2c1b9, mean cycles of key generation, encapsulation, decapsulation.
ML_KEM: Final = {
    512: (392_423, 390_881, 428_167),
    768: (642_096, 658_754, 707_827),
    1024: (1_018_976, 1_031_565, 1_094_008),
}


@dataclass(frozen=True)
class Reference:
    """A published figure in iterations per second and MHz, and the limit of its error, or None
    where compilers differ too much for one."""

    core: str
    board: str
    options: tuple[str, ...]
    published: float
    limit_percent: float | None
    source: str


# The options of gcc_template.uvprojx there, at the commit that was current on 2026-11-26.
M33_OPTIONS: Final = (
    "-march=armv8-m.main", "-mtune=cortex-m33", "-mfpu=fpv5-sp-d16", "-funroll-loops",
    "-finline-functions", "--param", "max-inline-insns-auto=200", "-falign-functions=4",
    "-falign-jumps=4", "-falign-loops=4", "-fomit-frame-pointer", "-funroll-all-loops",
    "-finline-limit=10000", "-ftree-dominator-opts", "-fno-if-conversion2",
    "-fselective-scheduling", "-fno-code-hoisting", "-freorder-blocks-and-partition",
)  # fmt: skip
M4_SOURCE: Final = (
    "Metro M4 with cache: 458.19 at 180 MHz ('faster'), 536.35 at 200 MHz ('dragons') "
    "(github.com/PaulStoffregen/CoreMark), which are -O3 and -Ofast -funroll-loops in "
    "github.com/adafruit/ArduinoCore-samd"
)
M7_SOURCE: Final = (
    "Teensy 4.0 at 600 MHz, code in ITCM: 2313.57 (github.com/PaulStoffregen/CoreMark); options "
    "not said, -O2 is what the board's core starts with"
)
M0PLUS_SOURCE: Final = (
    "the same program on rp2040js, an independent emulator with a table of its own: "
    "10,135,677 cycles for 20 iterations"
)
M33_SOURCE: Final = (
    "MPS2 AN505 at 20 MHz, zero wait states, Arm GCC, with the project's options for unrolling, "
    "inlining and alignment (github.com/GorgonMeducer/coremark_cortex-m33)"
)
M55_SOURCE: Final = (
    "MPS3 FPGA, r0p0 at 50 MHz from TCM, Arm GCC 10.3 -Ofast "
    "(github.com/GorgonMeducer/coremark_cortex-m55); 4.06 there with Arm Compiler 6.17"
)

COREMARK: Final = (
    Reference("cortex-m4", "mps2-an386", ("-O3",), 458.19 / 180, 6, M4_SOURCE),
    Reference("cortex-m4", "mps2-an386", ("-Ofast", "-funroll-loops"), 536.35 / 200, 6, M4_SOURCE),
    Reference("cortex-m7", "mps2-an500", ("-O2",), 2313.57 / 600, 10, M7_SOURCE),
    Reference("cortex-m33", "mps2-an505", ("-O3", *M33_OPTIONS), 3.396, 6, M33_SOURCE),
    Reference("cortex-m33", "mps2-an505", ("-Ofast", *M33_OPTIONS), 3.468, 6, M33_SOURCE),
    Reference("cortex-m55", "mps3-an547", ("-Ofast",), 2.805, None, M55_SOURCE),
    Reference("cortex-m0plus", "raspberry-pi-pico", ("-O3",), 20 / 10.135677, 2, M0PLUS_SOURCE),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    what: str
    reference: float
    estimate: float
    limit_percent: float | None
    digits: int = 0

    @property
    def error_percent(self) -> float:
        return 100.0 * (self.estimate / self.reference - 1.0)

    @property
    def holds(self) -> bool:
        return self.limit_percent is None or abs(self.error_percent) <= self.limit_percent


def roomy(name: str) -> Board:
    """A board with room for any of the programs."""
    board = boards.load(name)
    return replace(
        board, flash_timing=None,
        flash=replace(board.flash, size=1 << 22), ram=replace(board.ram, size=1 << 22),
    )  # fmt: skip


def ml_kem(folder: Path, variant: int) -> list[Row]:
    """Key generation, encapsulation, decapsulation: the mean of ten runs."""
    scheme = folder / "pqm4" / "crypto_kem" / f"ml-kem-{variant}" / "m4fspeed"
    common = folder / "mupq" / "common"
    sources = [*sorted(scheme.glob("*.c")), *sorted(scheme.glob("*.S"))]
    sources += [folder / "pqm4" / "common" / "keccakf1600.S", common / "fips202.c"]
    program = Program(
        sources,
        ["ml_kem.c", "randombytes.h"],
        [scheme, common, folder / "pqm4" / "common"],
        ["-O3"],
    )
    board = roomy("mps2-an386")
    counted = count(program, board)
    if counted.report != struct.pack("<I", 10):
        raise InputError(f"ML-KEM-{variant}: the two keys differ")
    cycles = [region_cycles(counted, board, r) for r in range(1, 31)]
    names = ("key generation", "encapsulation", "decapsulation")
    return [
        Row(f"ML-KEM-{variant} {name}", measured, statistics.fmean(cycles[k::3]), 3.0)
        for k, (name, measured) in enumerate(zip(names, ML_KEM[variant], strict=True))
    ]


def coremark(folder: Path, reference: Reference) -> Row:
    """CoreMark's iterations per second and MHz."""
    source = folder / "coremark"
    names = ("core_list_join.c", "core_main.c", "core_matrix.c", "core_state.c", "core_util.c")
    program = Program(
        [source / name for name in names],
        ["core_portme.c", "core_portme.h"],
        [source],
        [*reference.options, f"-DITERATIONS={ITERATIONS}", "-DPERFORMANCE_RUN=1"],
    )
    board = roomy(reference.board)
    counted = count(program, board)
    sums = struct.unpack("<4I", counted.report)
    if sums != CHECKSUMS:
        raise InputError(f"CoreMark on {reference.core}: checksums {sums} are wrong")
    per_mhz = 1e6 * ITERATIONS / region_cycles(counted, board, 1)
    options = " ".join(reference.options) if len(reference.options) < 3 else reference.options[0]
    what = f"CoreMark/MHz {reference.core} {options} (not a certified score)"
    return Row(what, reference.published, per_mhz, reference.limit_percent, digits=4)


def region_cycles(counted: Counted, board: Board, region: int) -> int:
    assert board.core.timing is not None
    return model_of(counted.image, board.core.timing).cycles(counted.profile[region])


def network_row(network: Network, inference: Inference) -> Row:
    target = network.target
    what = f"MLPerf Tiny {network.name} on {target.folder}, ms at {target.clock_hz / 1e6:g} MHz"
    limit = 15.0 if target.flash else None
    return Row(what, network.milliseconds, inference.milliseconds, limit, digits=2)


def waits_table(inferences: dict[Network, Inference]) -> list[str]:
    """What the estimates of the networks consist of."""
    lines = [
        "| network | cycles at zero wait states | waits for code | waits for data | "
        "error without the waits |",
        "|---|---|---|---|---|",
    ]
    for network, i in inferences.items():
        if i.waits is not None:
            plain = 1e3 * i.cycles / i.clock_hz / network.milliseconds - 1
            lines.append(
                f"| {network.name} | {i.cycles:,} | {i.waits.fetch_stalls:,} "
                f"| {i.waits.load_stalls:,} | {100 * plain:+.1f} % |"
            )
    return lines


def table(rows: list[Row], inferences: dict[Network, Inference], compiler: str) -> str:
    lines = [
        "# The cycle models against measured programs", "",
        "Made by `ZEROSKIP_VALIDATION=DIR make bench-timing`, whose script says what DIR holds.",
        f"Compiled here with {compiler}; references are published measurements made with",
        "other versions of GCC, which is part of the error. Estimates of ML-KEM and CoreMark are",
        "for zero wait states, those of networks with the waits for the flash.",
        "",
        "| program | published | estimated | error | allowed |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        allowed = "not held to it" if row.limit_percent is None else f"{row.limit_percent:g} %"
        lines.append(
            f"| {row.what} | {row.reference:,.{row.digits}f} | {row.estimate:,.{row.digits}f} "
            f"| {row.error_percent:+.1f} % | {allowed} |"
        )
    lines += ["", "Of the estimates for the NUCLEO-L4R5ZI:", "", *waits_table(inferences)]
    lines += [
        "", "Sources. ML-KEM: measured cycles on a NUCLEO-L4R5ZI at zero wait states, Arm GCC",
        "11.3.1 -O3, mean of ten runs (github.com/mupq/pqm4, benchmarks.csv at cc2c1b9). MLPerf",
        "Tiny: OctoML's submission to v1.0, closed division, microTVM with CMSIS-NN, on a",
        "NUCLEO-L4R5ZI from flash at five wait states, and on an nRF5340-DK, whose flash is not",
        "described here, so that estimates have to be low (github.com/mlcommons/tiny_results_v1.0;",
        "GCC of Zephyr SDK 0.13.2); its sources, compiled here with -O2 as there, give the outputs",
        "of the models bit for bit. CoreMark/MHz (iterations per second and MHz):", "",
        *dict.fromkeys(f"- {r.core}: {r.source}" for r in COREMARK),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"replace {TABLE.name}")
    arguments = parser.parse_args()
    if "ZEROSKIP_VALIDATION" not in os.environ:
        print("set ZEROSKIP_VALIDATION; see the head of this script", file=sys.stderr)
        return 2
    folder = Path(os.environ["ZEROSKIP_VALIDATION"]).resolve()
    rows = [row for variant in ML_KEM for row in ml_kem(folder, variant)]
    rows += [coremark(folder, reference) for reference in COREMARK]
    models = Path(os.environ.get("ZEROSKIP_DATA", ROOT.parent / "shared")) / "models"
    inferences = {
        n: networks.run(folder, n, models / f"mlperf_tiny_{n.name}_int8.tflite") for n in NETWORKS
    }
    rows += [network_row(network, inference) for network, inference in inferences.items()]
    version = run_tool(["arm-none-eabi-gcc", "-dumpversion"], timeout_s=60).stdout.strip()
    text = table(rows, inferences, f"arm-none-eabi-gcc {version}")
    print(text)
    if arguments.write:
        TABLE.write_text(text)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
