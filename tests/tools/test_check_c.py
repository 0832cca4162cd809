"""What the C checks cover."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def check_c() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_c", ROOT / "tools" / "check_c.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_c"] = module
    spec.loader.exec_module(module)
    return module


def test_every_option_is_checked_in_its_other_setting(check_c: ModuleType) -> None:
    text = (ROOT / "runtime_c" / "include" / "zs_config.h").read_text(encoding="utf-8")
    defined = set(re.findall(r"^#ifndef (ZS_\w+)$", text, flags=re.MULTILINE))
    defined -= {"ZS_CONFIG_H", "ZS_DSP", "ZS_SSE2"}  # the latter are properties of the core
    names = {check.name for check in check_c.checks()}
    assert {name for name, _ in check_c.options()} == defined
    assert {f"{name}={1 - default}" for name, default in check_c.options()} <= names


def test_every_source_is_compiled_for_the_host_and_five_cores(check_c: ModuleType) -> None:
    names = {check.name for check in check_c.checks()}
    assert len(check_c.CORES) == 5
    for source in (ROOT / "runtime_c" / "src").glob("*.c"):
        for target in ("host", *check_c.CORES):
            assert f"{target} runtime_c/src/{source.name}" in names
    for source in (ROOT / "runtime_c" / "port").glob("*.c"):
        for target in check_c.CORES:
            assert f"{target} runtime_c/port/{source.name}" in names


def test_a_finding_is_reported(check_c: ModuleType, tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text("int f(int a);\nint f(int a)\n{\n    char c = a;\n    return c;\n}\n")
    command = ("cc", *check_c.WARNINGS, "-c", str(bad), "-o", "/dev/null")
    found = check_c.run(check_c.Check("bad", command))
    assert found.startswith("bad:")
    assert "-Werror=conversion" in found
