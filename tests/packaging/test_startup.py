"""Importing zeroskip stays cheap: no framework comes with it."""

import os
import resource
import subprocess
import sys

HEAVY = ("torch", "tflite", "tflite_runtime", "ai_edge_litert", "sklearn", "unicorn", "capstone")


def test_importing_zeroskip_imports_no_framework() -> None:
    program = (
        "import sys, zeroskip, zeroskip.converters, zeroskip.converters.ir, zeroskip.boards\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_takes_under_0_3_seconds() -> None:
    """Of processor time, which other work on the machine does not change; the best of five.

    Without the coverage measurement of a surrounding run, which is no part of the command.
    """
    program = "import sys; from zeroskip.cli import main; sys.exit(main())"

    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", program, "--help"]
        subprocess.run(command, env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < 0.3
