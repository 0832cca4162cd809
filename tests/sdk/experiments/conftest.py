"""A specification of an experiment beside its model."""

from pathlib import Path

import pytest
from small_grid import NET, SPEC


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    pytest.importorskip("sklearn")
    (tmp_path / "net.py").write_text(NET)
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path
