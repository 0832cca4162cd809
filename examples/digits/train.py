"""A small CNN for scikit-learn's handwritten digits: data, network, training, accuracy.

The digits are 1,797 real images of 8x8 pixels with 17 grey levels (UCI "Optical Recognition of
Handwritten Digits"), bundled with scikit-learn. A fifth of them is held out and used for nothing
but the accuracy that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

# Wraps an iterable of epochs to show progress: (iterable, what is being done) -> iterable.
Progress = Callable[[Sequence[int], str], Iterable[int]]


def no_progress(epochs: Sequence[int], what: str) -> Iterable[int]:
    """Shows nothing."""
    return epochs


@dataclass(frozen=True)
class Digits:
    """Images are float32 (N, 1, 8, 8) in 0..1, labels int64 (N,) in 0..9."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load(seed: int = 0) -> Digits:
    """The digits, split 80 : 20 with equal shares of each class."""
    images, labels = load_digits(return_X_y=True)
    x = (images.reshape(-1, 1, 8, 8) / 16.0).astype(np.float32)
    y = labels.astype(np.int64)
    train_x, test_x, train_y, test_y = (
        torch.from_numpy(part)
        for part in train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)
    )
    return Digits(train_x, train_y, test_x, test_y)


def build_network(seed: int = 0) -> nn.Sequential:
    """Three convolutions with batch-norm and a linear layer: about 32,000 weights.

    Input (N, 1, 8, 8), output (N, 10) logits.
    """
    torch.manual_seed(seed)

    def block(channels_in: int, channels_out: int) -> list[nn.Module]:
        return [
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *block(1, 32),
        *block(32, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, 10),
    )


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    before_epoch: Callable[[int], None] | None = None,
    after_step: Callable[[], None] | None = None,
    progress: Progress = no_progress,
    what: str = "train",
) -> None:
    """Train with Adam and a cosine learning rate.

    Images are shifted by up to one pixel at random. `before_epoch(epoch)` and `after_step()` are
    where pruning sets and keeps its masks.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    batch = 64
    steps = epochs * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for epoch in progress(range(epochs), what):
        if before_epoch is not None:
            before_epoch(epoch)
        for index in torch.randperm(len(x), generator=generator).split(batch):
            dy, dx = torch.randint(-1, 2, (2,), generator=generator).tolist()
            images = torch.roll(x[index], (dy, dx), dims=(2, 3))
            loss = nn.functional.cross_entropy(model(images), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if after_step is not None:
                after_step()
    model.eval()


def predict(model: nn.Module, x: Tensor) -> npt.NDArray[np.float32]:
    """Logits (N, 10), float32."""
    model.eval()
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = model(x).numpy()
    return logits


def accuracy(logits: npt.NDArray[np.generic], labels: Tensor) -> float:
    """The fraction of rows whose largest entry is at the label; 0..1."""
    return float((logits.argmax(axis=1) == labels.numpy()).mean())
