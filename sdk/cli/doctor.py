"""zeroskip doctor: what is installed, what is missing, what that would enable."""

import argparse
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Final

from zeroskip.cli.table import render
from zeroskip.errors import ZeroSkipError
from zeroskip.tools import find_program, has_package, host_compiler, run_tool

_VERSION_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Check:
    """One line: `found` is a version, or None if the thing is missing."""

    name: str
    found: str | None
    enables: str
    remedy: str
    required: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(args: argparse.Namespace) -> int:
    checks = examine()
    rows = [
        [c.name, c.found or ("MISSING" if c.required else "missing"), c.enables] for c in checks
    ]
    print("\n".join(render(["", "found", "for"], rows, left=(0, 1, 2))))
    print()
    by_name = {c.name: c for c in checks}
    for task, alternatives in {
        "build": ("arm-none-eabi-gcc", "ziglang"),
        "emulate": ("qemu-system-arm", "unicorn"),
    }.items():
        if not any(by_name[a].found for a in alternatives):
            print(f"zeroskip {task} will not work: it needs {' or '.join(alternatives)}")
    for check in checks:
        if check.found is None:
            print(f"{check.name}: {check.remedy}")
    broken = [c.name for c in checks if c.required and c.found is None]
    print("the core is broken: " + ", ".join(broken) if broken else "the core works")
    return 1 if broken else 0


def examine() -> list[Check]:
    """Look at everything zeroskip can use, the core first."""
    extra = "pip install 'zeroskip[{}]'".format
    litert = "tflite-runtime" if has_package("tflite_runtime") else "ai-edge-litert"
    return [
        Check("python", platform.python_version(), "everything", "", required=True),
        Check("numpy", _package("numpy"), "everything", "pip install numpy", required=True),
        Check("C runtime", _runtime(), "everything", "install a C compiler, then zeroskip again",
              required=True),
        Check("tflite", _package("tflite"), "convert: TFLite models", extra("tflite")),
        Check(litert, _package(litert), "tests against TFLite", extra("tflite")),
        Check("torch", _package("torch"), "convert: PyTorch models", extra("torch")),
        Check("C compiler", _version(host_compiler()), "emulate: QEMU, and speed",
              "apt install gcc"),
        Check("arm-none-eabi-gcc", _version(find_program("arm-none-eabi-gcc")),
              "build, emulate: first choice", "apt install gcc-arm-none-eabi"),
        Check("ziglang", _package("ziglang"), "build, emulate: without arm-none-eabi-gcc",
              extra("emulate")),
        Check("qemu-system-arm", _version(find_program("qemu-system-arm")), "emulate: first choice",
              "apt install qemu-system-arm"),
        Check("unicorn", _package("unicorn"), "emulate: without qemu-system-arm", extra("emulate")),
        Check("jinja2", _package("jinja2"), "report, compress: HTML pages", extra("report")),
        Check("msgspec", _package("msgspec"), "report: records of runs", extra("report")),
        Check("capstone", _package("capstone"), "emulate: cycle estimates", extra("emulate")),
        Check("pyocd", _package("pyocd"), "flash: debug probes", extra("flash")),
        Check("openocd", _version(find_program("openocd")), "flash: debug probes",
              "apt install openocd"),
        Check("pyserial", _package("pyserial"), "flash: STM32 boot loader; measure",
              extra("flash")),
    ]  # fmt: skip


def _package(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _version(program: str | None) -> str | None:
    """The first line of `program --version`."""
    if program is None:
        return None
    return _attempt(
        lambda: run_tool([program, "--version"], timeout_s=_VERSION_TIMEOUT_S).stdout.splitlines()[
            0
        ]
    )


def _runtime() -> str | None:
    """Loads the extension and has it refuse something, which proves that it runs."""

    def probe() -> str:
        runtime = import_module("zeroskip.runtime")
        try:
            runtime.Model(b"ZSKP")
        except ZeroSkipError:
            return metadata.version("zeroskip")
        raise RuntimeError("accepted a truncated container")

    return _attempt(probe)


def _attempt(probe: Callable[[], str]) -> str | None:
    try:
        return probe()
    except Exception as error:  # whatever is wrong, the doctor goes on to the next patient
        print(f"doctor: {error}", file=sys.stderr)
        return None
