"""Code, data and stack sizes of the C runtime on five Cortex-M cores.

    python tools/sizes.py            measure, write benchmarks/sizes.md and benchmarks/sizes.csv
    python tools/sizes.py --check    measure, compare with the committed table, write nothing

Each figure is the size of a linked image that loads and runs a model, from sections that are
reachable only (--gc-sections), library functions included. With --check a figure that grew by
more than 2 %, writable data, or more code for keyword spotting than LIMITS says is a failure;
against a table of another compiler version only the last two are checked.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from check_c import CORES

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build" / "sizes"
TABLE_CSV: Final = ROOT / "benchmarks" / "sizes.csv"
TABLE_MD: Final = ROOT / "benchmarks" / "sizes.md"
COMPILER: Final = "arm-none-eabi-gcc"
GROWTH_LIMIT: Final = 0.02
# Most bytes of code, by core, profile and optimization.
LIMITS: Final = {
    ("cortex-m4", "kws", "-O2"): 24 * 1024,
    ("cortex-m4", "kws", "-Os"): 21 * 1024,
    ("cortex-m4", "kws model", "-O2"): 19 * 1024,
    ("cortex-m0plus", "kws", "-Os"): 18 * 1024,
    ("cortex-m0plus", "kws model", "-O2"): 16 * 1024,
    ("cortex-m0plus", "kws model", "-Os"): 13 * 1024,
}

LINKING: Final = "-nostartfiles --specs=nano.specs -Wl,--gc-sections -Wl,-e,user -Wl,-u,user"
OPTIMIZATIONS: Final = ("-Os", "-O2")

# What is compiled out of each image. `kws` keeps what the MLPerf Tiny keyword-spotting network
# needs (int8 convolutions, fully connected, pooling, softmax, layout) and every codec; `kws model`
# what `zeroskip build` compiles for that network, whose weights are dense.
_KWS: Final = (
    "ZS_FLOAT32_KERNELS",
    "ZS_OP_BINARY",
    "ZS_OP_CONCAT",
    "ZS_OP_CONVERT",
    "ZS_OP_MEAN",
    "ZS_OP_SLICE",
    "ZS_OP_TABLE",
    "ZS_OP_TRANSPOSE",
    "ZS_OP_UNARY",
)
_CODECS: Final = ("ANS", "BITMASK", "BLOCK", "GAP", "GAP4", "HUFFMAN", "PACKED")
PROFILES: Final = {
    "all": (),
    "kws": _KWS,
    "kws model": (*_KWS, *(f"ZS_CODEC_{codec}" for codec in _CODECS)),
}

USER: Final = """\
#include "zs.h"

enum zs_status user(const void *blob, size_t size, void *arena, size_t arena_size);

enum zs_status user(const void *blob, size_t size, void *arena, size_t arena_size)
{
    struct zs_model model;
    enum zs_status status = zs_model_init(&model, blob, size);
    if (status == ZS_OK && zs_arena_size(&model) <= arena_size) {
        *(volatile char *)zs_input(&model, arena, 0) = 1;
        status = zs_run(&model, arena, arena_size, NULL);
        (void)*(const volatile char *)zs_output(&model, arena, 0);
    }
    return status;
}
"""


@dataclass(frozen=True)
class Row:
    """One linked image. Sizes in bytes; `frame_bytes` is the largest stack frame."""

    core: str
    profile: str
    optimization: str
    text_bytes: int
    data_bytes: int
    bss_bytes: int
    frame_bytes: int
    frame_function: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.core, self.profile, self.optimization)


def compiler_version() -> str:
    """For example 12.2.1."""
    command = [COMPILER, "-dumpfullversion"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def measure(core: str, profile: str, optimization: str) -> Row:
    """Compile and link one image; raises CalledProcessError with the compiler's words shown."""
    folder = BUILD / core / f"{profile.replace(' ', '-')}{optimization}"
    folder.mkdir(parents=True)
    (folder / "user.c").write_text(USER, encoding="utf-8")
    sources = sorted(str(p) for p in (ROOT / "runtime_c" / "src").glob("*.c"))
    flags = ["-std=c99", optimization, "-ffreestanding", "-ffunction-sections", "-fdata-sections"]
    flags += [f"-D{option}=0" for option in PROFILES[profile]]
    flags.append(f"-I{ROOT / 'runtime_c' / 'include'}")
    compiler = [COMPILER, *CORES[core].split()]
    subprocess.run(
        [*compiler, *flags, "-fstack-usage", "-c", "user.c", *sources],
        cwd=folder,
        check=True,
    )
    objects = sorted(p.name for p in folder.glob("*.o"))
    subprocess.run(
        [*compiler, *objects, *LINKING.split(), "-o", "image.elf"],
        cwd=folder,
        check=True,
    )
    size = subprocess.run(
        ["arm-none-eabi-size", "image.elf"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    text, data, bss = (int(field) for field in size.splitlines()[1].split()[:3])
    frame, function = largest_frame(folder, reachable(folder / "image.elf"))
    return Row(core, profile, optimization, text, data, bss, frame, function)


def reachable(image: Path) -> set[str]:
    """Names of the functions in an image, without the suffixes that inlining adds."""
    names = subprocess.run(
        ["arm-none-eabi-nm", str(image)], check=True, capture_output=True, text=True
    ).stdout
    return {line.split()[-1].split(".")[0] for line in names.splitlines()}


def largest_frame(folder: Path, functions: set[str]) -> tuple[int, str]:
    """The largest stack frame (bytes, function) that -fstack-usage reports for `functions`."""
    frames = []
    for report in folder.glob("*.su"):
        for line in report.read_text().splitlines():
            place, frame, _kind = line.split("\t")
            name = place.rsplit(":", 1)[1].split(".")[0]
            if name in functions:
                frames.append((int(frame), name))
    return max(frames)


def measure_all(jobs: int) -> list[Row]:
    """Every core, profile and optimization."""
    shutil.rmtree(BUILD, ignore_errors=True)
    wanted = [(c, p, o) for p in PROFILES for c in CORES for o in OPTIMIZATIONS]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda key: measure(*key), wanted))


def write(rows: Iterable[Row], version: str) -> None:
    """The table twice: for programs and for people."""
    TABLE_CSV.parent.mkdir(exist_ok=True)
    with TABLE_CSV.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, ["compiler", *(f.name for f in fields(Row))], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows({"compiler": version, **asdict(row)} for row in rows)
    TABLE_MD.write_text(markdown(rows, version), encoding="utf-8")


def markdown(rows: Iterable[Row], version: str) -> str:
    lines = [
        "# Sizes of the C runtime",
        "",
        f"Measured by `make sizes` with {COMPILER} {version}: bytes of a linked image that loads",
        "and runs a model, unreachable sections removed, library functions included. `all` has",
        "every operator, element type and codec; `kws` the int8 operators that the MLPerf Tiny",
        "keyword-spotting network needs, and every codec; `kws model` what `zeroskip build`",
        "compiles for that network, whose weights are dense. Frame is the largest stack frame of",
        "one function. The model and the arena come on top.",
        "",
        "| core | operators | flags | text | data | bss | frame | in |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.core} | {row.profile} | {row.optimization} | {row.text_bytes:,} | "
            f"{row.data_bytes:,} | {row.bss_bytes:,} | {row.frame_bytes:,} | "
            f"`{row.frame_function}` |"
        )
    return "\n".join(lines) + "\n"


def committed() -> tuple[str, dict[tuple[str, str, str], Row]]:
    """The compiler's version and the rows of the table in the repository."""
    with TABLE_CSV.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    rows = [
        Row(
            record["core"],
            record["profile"],
            record["optimization"],
            int(record["text_bytes"]),
            int(record["data_bytes"]),
            int(record["bss_bytes"]),
            int(record["frame_bytes"]),
            record["frame_function"],
        )
        for record in records
    ]
    return records[0]["compiler"], {row.key: row for row in rows}


def limits(rows: Iterable[Row]) -> list[str]:
    """What breaks a limit that holds whatever the compiler."""
    found = []
    for row in rows:
        name = " ".join(row.key)
        if row.data_bytes or row.bss_bytes:
            found.append(f"{name}: {row.data_bytes} + {row.bss_bytes} bytes of writable data")
        limit = LIMITS.get(row.key)
        if limit is not None and row.text_bytes > limit:
            found.append(f"{name}: text {row.text_bytes} over {limit}")
    return found


def growth(rows: Iterable[Row], before: dict[tuple[str, str, str], Row]) -> list[str]:
    """What grew by more than GROWTH_LIMIT, or is not in the table."""
    found = []
    for row in rows:
        name = " ".join(row.key)
        old = before.get(row.key)
        if old is None:
            found.append(f"{name}: not in the table")
            continue
        for what in ("text_bytes", "frame_bytes"):
            was, now = getattr(old, what), getattr(row, what)
            if now > was * (1 + GROWTH_LIMIT):
                found.append(f"{name}: {what} {was} -> {now} (+{now / was - 1:.1%})")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Sizes of the C runtime.")
    parser.add_argument("--check", action="store_true", help="compare with the committed table")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default 2)")
    args = parser.parse_args(argv)

    if shutil.which(COMPILER) is None:
        print(f"sizes: {COMPILER} is not installed: nothing measured", file=sys.stderr)
        return 1 if not args.check or os.environ.get("ZEROSKIP_REQUIRE_TOOLS") == "1" else 0
    version = compiler_version()
    rows = measure_all(args.jobs)
    found = limits(rows)
    if args.check:
        table_version, before = committed()
        if table_version == version:
            found += growth(rows, before)
        else:
            print(f"sizes: the table is of {table_version}, this is {version}: growth not checked")
    else:
        write(rows, version)
        print(markdown(rows, version), end="")
    for line in found:
        print(f"sizes: {line}", file=sys.stderr)
    if args.check:
        print(f"sizes: {len(rows)} images measured, {len(found)} findings")
    if found and args.check:
        print("sizes: `make sizes` renews the table; say in the commit why", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
