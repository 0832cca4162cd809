"""Shared by all tests: the `tool` marker and where test data is found.

`@pytest.mark.tool("qemu-system-arm")` names a program on PATH or an importable package that the
test needs. Where it is missing the test is skipped and counted; with ZEROSKIP_REQUIRE_TOOLS=1,
as in CI, it fails instead.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def have_tool(name: str) -> bool:
    """Whether `name` is a program on PATH or a package that can be imported."""
    if shutil.which(name) is not None:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("tool"):
        missing = [name for name in marker.args if not have_tool(name)]
        if not missing:
            continue
        message = f"needs {', '.join(missing)}"
        if os.environ.get("ZEROSKIP_REQUIRE_TOOLS") == "1":
            pytest.fail(f"{message}, and ZEROSKIP_REQUIRE_TOOLS=1 allows no skips", pytrace=False)
        pytest.skip(message)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with reference models and data sets; tests that use it skip without it.

    ZEROSKIP_DATA names it; the default is `shared` beside the repository.
    """
    root = Path(os.environ.get("ZEROSKIP_DATA", ROOT.parent / "shared"))
    if not (root / "models").is_dir():
        pytest.skip(f"no reference models in {root}; set ZEROSKIP_DATA")
    return root
