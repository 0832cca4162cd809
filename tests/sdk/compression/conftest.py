"""A small classification task with a network to match: seconds, not minutes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODEL = """
from torch import nn
def make():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 24), nn.ReLU(),
        nn.Linear(24, 4),
    )
"""


def blobs(count: int, seed: int) -> tuple[Any, Any]:
    """Images (N, 1, 8, 8) with a bright quadrant, which is the label."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.random((count, 1, 8, 8), np.float32) * 0.6
    for image, label in zip(images, labels, strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 0.4
    return images, labels


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder with data.npz and net.py."""
    x, y = blobs(240, 0)
    x_test, y_test = blobs(100, 1)
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    (tmp_path / "net.py").write_text(MODEL)
    return tmp_path
