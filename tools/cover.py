"""Run the tests and report the line coverage of the Python package and of the C runtime.

    python tools/cover.py [--minimum PERCENT] [-- PYTEST ARGUMENTS]

The C runtime is built a second time with gcov counters into build/coverage, and a
sitecustomize module puts that build in the place of the normal one in every Python process that
the tests start, so that command-line tests count too. Exit status 0 when the tests pass and both
figures reach the minimum.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build" / "coverage"

# Runs at the start of every Python process: other processes than pytest's own report their
# Python coverage, and all of them import the instrumented extension.
SITECUSTOMIZE: Final = """\
import importlib.util
import os
import sys

EXTENSION = {extension!r}


class Instrumented:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "zeroskip._runtime":
            return importlib.util.spec_from_file_location(name, EXTENSION)
        return None


sys.meta_path.insert(0, Instrumented)

if "COVERAGE_PROCESS_START" in os.environ:
    try:
        import coverage
    except ImportError:
        pass
    else:
        coverage.process_startup()
"""


def build_extension() -> Path:
    """Compile the extension with gcov counters; returns the shared object."""
    shutil.rmtree(BUILD, ignore_errors=True)
    library, objects = BUILD / "lib", BUILD / "objects"
    # Runs release the GIL, so that counters are written by several threads.
    flags = "--coverage -fprofile-update=atomic -O0 -g"
    environment = os.environ | {"CFLAGS": flags, "LDFLAGS": "--coverage"}
    subprocess.run(
        [
            sys.executable,
            "setup.py",
            "-q",
            "build_ext",
            "--force",
            "--build-lib",
            str(library),
            "--build-temp",
            str(objects),
        ],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    return next(library.rglob("_runtime*.so"))


def run_tests(extension: Path, arguments: Sequence[str]) -> int:
    """pytest over the instrumented extension; Python's counters end in build/coverage."""
    site = BUILD / "site"
    site.mkdir()
    text = SITECUSTOMIZE.format(extension=str(extension))
    (site / "sitecustomize.py").write_text(text, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {
        "PYTHONPATH": path,
        "COVERAGE_FILE": str(BUILD / "python"),
        "COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"),
    }
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def report_python(minimum: float) -> bool:
    """Print the coverage of each module; whether the total reaches the minimum."""
    environment = os.environ | {"COVERAGE_FILE": str(BUILD / "python")}
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "combine", "-q"], cwd=ROOT, env=environment, check=True)
    report = [*coverage, "report", "--skip-covered", f"--fail-under={minimum}"]
    return subprocess.run(report, cwd=ROOT, env=environment).returncode == 0


def report_c(minimum: float) -> bool:
    """Print the coverage of each C file; whether the total reaches the minimum."""
    return (
        subprocess.run(
            [
                sys.executable,
                "-m",
                "gcovr",
                "--root",
                str(ROOT),
                "--filter",
                "runtime_c/src/",
                "--txt",
                "--print-summary",
                f"--fail-under-line={minimum}",
                "--gcov-ignore-parse-errors=negative_hits.warn_once_per_file",
                str(BUILD / "objects"),
            ],
            cwd=ROOT,
        ).returncode
        == 0
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tests with line coverage of Python and C.")
    parser.add_argument("--minimum", type=float, default=90.0, help="percent (default 90)")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    args = parser.parse_args(argv)

    tests = run_tests(build_extension(), args.pytest)
    print("\nPython: sdk, converters, boards", flush=True)
    python = report_python(args.minimum)
    print("\nC: runtime_c/src", flush=True)
    c = report_c(args.minimum)
    for fine, what in ((tests == 0, "tests"), (python, "Python coverage"), (c, "C coverage")):
        if not fine:
            print(f"cover: {what} failed (minimum {args.minimum:g} %)", file=sys.stderr)
    return 0 if tests == 0 and python and c else 1


if __name__ == "__main__":
    sys.exit(main())
