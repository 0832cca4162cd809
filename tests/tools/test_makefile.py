"""The Makefile's targets are listed with what they do."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, flags=re.MULTILINE))
    assert {"help", "setup", "demo", "test", "check", "fuzz", "clean", "sizes"} <= targets
    shown = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[0] for line in shown.splitlines()} == targets


def test_what_make_installs_is_pinned() -> None:
    """torch without a pin brings CUDA; tflite-runtime fails with numpy 2."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in pins
    assert any(p.startswith("numpy==1.") for p in pins)
    assert any(p.startswith("tflite-runtime==2.14.0") for p in pins)
    loose = [p for p in pins if p and not p.startswith(("#", "numpy>=2")) and "==" not in p]
    assert loose == []
