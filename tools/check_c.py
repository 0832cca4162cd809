"""Compile the C sources with every warning as an error, and run cppcheck over them.

    python tools/check_c.py [--jobs N]

Checked are: each file of runtime_c/src on the host and for five Cortex-M cores, the port's files
for the cores, the public header as C++, each 0/1 option of zs_config.h in its other setting, and
cppcheck's findings. A program that is missing is reported; with ZEROSKIP_REQUIRE_TOOLS=1 that is
a failure. Exit status 0 when nothing was found.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
INCLUDE: Final = "-Iruntime_c/include"
WARNINGS: Final = (
    "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Wvla -Wcast-align "
    "-Wcast-qual -Wmissing-prototypes -Wstrict-prototypes -Wswitch-enum -Werror"
).split()
CORES: Final = {
    "cortex-m0plus": "-mcpu=cortex-m0plus -mthumb",
    "cortex-m3": "-mcpu=cortex-m3 -mthumb",
    "cortex-m4": "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
    "cortex-m7": "-mcpu=cortex-m7 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
    "cortex-m33": "-mcpu=cortex-m33 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
}
# What the firmware builder passes from a board's description; any values do for a check.
PORT: Final = (
    "-Iruntime_c/port -DPORT_TRAP_UNALIGNED=1 -DPORT_CYCLES_DWT={dwt} "
    "-DPORT_CONSOLE_BASE=0x40004000u -DPORT_CONSOLE_CLOCK_HZ=16000000u "
    '-DPORT_CONSOLE_BAUD=115200u -DPORT_CLOCK_HZ=16000000u -DPORT_BOARD_NAME="board" '
    '-DPORT_CORE_NAME="core" -DPORT_ENERGY_MODE=0 '
    "-DPORT_TRIGGER=1 -DPORT_TRIGGER_PORT=0x48000400u -DPORT_TRIGGER_BIT=3u "
    "-DPORT_FLASH_CACHE=1 -DPORT_CONSOLE_TX=6u -DPORT_CONSOLE_RX=8u"
)
CPPCHECK: Final = (
    "cppcheck --std=c99 --enable=warning,style,performance,portability --inline-suppr "
    "--error-exitcode=1 --quiet --suppress=missingIncludeSystem --suppress=unmatchedSuppression "
    # The start and end symbols of a section, which cppcheck takes for different objects.
    "--suppress=comparePointers:runtime_c/port/* "
    # The options are given below; the user's own configuration file does not exist here.
    "-UZS_CONFIG"
).split()


@dataclass(frozen=True)
class Check:
    """One command and what a failure of it is called."""

    name: str
    command: tuple[str, ...]


def sources(folder: str) -> list[str]:
    return sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / folder).glob("*.c"))


def options() -> list[tuple[str, int]]:
    """The 0/1 options of zs_config.h with a fixed default, and that default."""
    config = ROOT / "runtime_c" / "include" / "zs_config.h"
    if not config.exists():
        return []
    text = config.read_text(encoding="utf-8")
    found = re.findall(r"^#ifndef (ZS_\w+)\n#define \1 ([01])\b", text, flags=re.MULTILINE)
    return [(name, int(default)) for name, default in found]


def checks() -> list[Check]:
    """Every check, cheapest first."""
    host = shutil.which("cc") or "cc"
    result = [
        Check(
            "zs.h as C++",
            (
                "c++",
                "-fsyntax-only",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-x",
                "c++",
                "runtime_c/include/zs.h",
            ),
        )
    ]
    runtime = sources("runtime_c/src")
    for source in runtime:
        result.append(Check(f"host {source}", (host, *WARNINGS, "-O2", *to_nowhere(source))))
    for core, flags in CORES.items():
        cross = ("arm-none-eabi-gcc", *WARNINGS, "-O2", "-ffreestanding", *flags.split())
        for source in runtime:
            result.append(Check(f"{core} {source}", (*cross, *to_nowhere(source))))
        port = PORT.format(dwt=int(core != "cortex-m0plus")).split()
        for source in sources("runtime_c/port"):
            result.append(Check(f"{core} {source}", (*cross, *port, *to_nowhere(source))))
    for name, default in options():
        command = (host, *WARNINGS, "-fsyntax-only", f"-D{name}={1 - default}", INCLUDE, *runtime)
        result.append(Check(f"{name}={1 - default}", command))
    defaults = (f"-D{name}={default}" for name, default in options())
    port = PORT.format(dwt=1).split()
    folders = ("runtime_c/src", "runtime_c/port")
    result.append(Check("cppcheck", (*CPPCHECK, *defaults, *port, INCLUDE, *folders)))
    return result


def to_nowhere(source: str) -> tuple[str, ...]:
    return (INCLUDE, "-c", source, "-o", os.devnull)


def run(check: Check) -> str:
    """The findings of one check; empty when there are none."""
    done = subprocess.run(
        check.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode == 0:
        return ""
    return f"{check.name}:\n{done.stdout.strip() or f'exit status {done.returncode}'}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="C warnings and static analysis.")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default 2)")
    jobs: int = parser.parse_args(argv).jobs

    wanted = checks()
    missing = sorted({c.command[0] for c in wanted if shutil.which(c.command[0]) is None})
    possible = [c for c in wanted if c.command[0] not in missing]
    with ThreadPoolExecutor(jobs) as pool:
        findings = [found for found in pool.map(run, possible) if found]
    for finding in findings:
        print(finding, file=sys.stderr)
    for program in missing:
        skipped = sum(c.command[0] == program for c in wanted)
        print(f"check_c: {program} is not installed: {skipped} checks not made", file=sys.stderr)
    print(f"check_c: {len(possible)} checks, {len(findings)} with findings")
    strict = os.environ.get("ZEROSKIP_REQUIRE_TOOLS") == "1"
    return 1 if findings or (missing and strict) else 0


if __name__ == "__main__":
    sys.exit(main())
