"""The size table: growth is noticed, limits hold, both forms of the table agree."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def sizes() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    spec = importlib.util.spec_from_file_location("sizes", TOOLS / "sizes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sizes"] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_tables_agree_and_hold_the_limits(sizes: ModuleType) -> None:
    version, rows = sizes.committed()
    assert sizes.TABLE_MD.read_text(encoding="utf-8") == sizes.markdown(rows.values(), version)
    assert len(rows) == len(sizes.PROFILES) * len(sizes.CORES) * len(sizes.OPTIMIZATIONS)
    assert sizes.limits(rows.values()) == []


def test_growth_over_two_percent_is_found(sizes: ModuleType) -> None:
    old = sizes.Row("cortex-m4", "kws", "-O2", 10_000, 0, 0, 500, "f")
    before = {old.key: old}
    assert sizes.growth([replace(old, text_bytes=10_200)], before) == []
    (found,) = sizes.growth([replace(old, text_bytes=10_201)], before)
    assert "text_bytes 10000 -> 10201" in found
    assert len(sizes.growth([replace(old, frame_bytes=512)], before)) == 1
    assert len(sizes.growth([replace(old, core="cortex-m85")], before)) == 1


def test_writable_data_and_code_over_24_kib_are_found(sizes: ModuleType) -> None:
    row = sizes.Row("cortex-m4", "kws", "-O2", 24 * 1024, 0, 0, 500, "f")
    assert sizes.limits([row]) == []
    assert len(sizes.limits([replace(row, text_bytes=24 * 1024 + 1)])) == 1
    assert len(sizes.limits([replace(row, bss_bytes=4)])) == 1
    assert sizes.limits([replace(row, core="cortex-m0plus", text_bytes=30_000)]) == []


@pytest.mark.slow
@pytest.mark.tool("arm-none-eabi-gcc")
def test_the_image_for_keyword_spotting_fits_on_the_m4(
    sizes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "BUILD", tmp_path)
    row = sizes.measure("cortex-m4", "kws", "-O2")
    assert sizes.limits([row]) == []
    assert row.text_bytes > 2048
    assert row.data_bytes == row.bss_bytes == 0
