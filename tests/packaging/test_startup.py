"""Importing zeroskip stays cheap: no framework comes with it."""

import subprocess
import sys
import time

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


def test_help_answers_in_under_0_3_seconds() -> None:
    program = "import sys; from zeroskip.cli import main; sys.exit(main())"

    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    best_s = once()
    for _ in range(9):
        if best_s < 0.3:
            break
        best_s = min(best_s, once())
    assert best_s < 0.3
