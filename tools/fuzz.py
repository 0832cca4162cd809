"""Fuzz the container loader and the runtime with libFuzzer under ASan and UBSan.

    python tools/fuzz.py [--seconds N]

Starts from the containers in tests/golden and from what earlier runs kept in build/fuzz/corpus.
An input that crashes is left in build/fuzz and named in the output; the exit status is then not 0.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build" / "fuzz"
TARGET: Final = ROOT / "tests" / "fuzz" / "fuzz_model.c"
LONGEST_INPUT_BYTES: Final = 65536


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fuzz the container loader.")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    seconds: int = parser.parse_args(argv).seconds

    clang = shutil.which("clang")
    if clang is None:
        print("fuzz: needs clang with libFuzzer (Debian: clang libclang-rt-14-dev)")
        return 1
    corpus = BUILD / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    program = BUILD / "fuzz_model"
    built = subprocess.run(
        [clang, "-std=c99", "-g", "-O1", "-fsanitize=fuzzer,address,undefined"]
        + ["-fno-sanitize-recover=all", f"-I{ROOT / 'runtime_c' / 'include'}"]
        + [str(p) for p in sorted((ROOT / "runtime_c" / "src").glob("*.c"))]
        + [str(TARGET), "-o", str(program)]
    )
    if built.returncode != 0:
        return built.returncode
    seeds = sorted({p.parent for p in (ROOT / "tests").rglob("*.zsk")})
    return subprocess.run(
        [
            str(program),
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT_BYTES}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            f"-artifact_prefix={BUILD}/",
            str(corpus),
            *map(str, seeds),
        ]
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
