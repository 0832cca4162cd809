"""Labelled samples for training, and where they come from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zeroskip import datasets
from zeroskip.conversion import load_npz
from zeroskip.errors import InputError

AUGMENTATIONS: Final = ("none", "shift", "crop-flip")
_SHIFT: Final = 1
_CROP: Final = 4
_SPLIT_SEED: Final = 0


@dataclass(frozen=True)
class Samples:
    """`values` (N, ...) float32, or uint8 where 1.0 is stored as `full_scale`; `labels` int64
    (N,) in 0..classes - 1."""

    values: Tensor
    labels: Tensor
    full_scale: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """(float32 values, labels) of some rows."""
        values = self.values[rows].float()
        return (values if self.full_scale == 1 else values / self.full_scale), self.labels[rows]

    def shuffled(self, size: int, augment: str = "none") -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of `size` in an order drawn from torch's generator; the last may be smaller."""
        for rows in torch.split(torch.randperm(len(self)), size):
            values, labels = self.batch(rows)
            yield augmented(values, augment), labels

    def per_class(self, count: int, seed: int = 0) -> Tensor:
        """Rows of `count` samples of each class (or all there are), drawn and shuffled by
        `seed`."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        labels = self.labels[order]
        found = torch.cat([order[labels == c][:count] for c in torch.unique(labels).tolist()])
        return found[torch.randperm(len(found), generator=generator)]

    def take(self, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """The first `count` samples, float32, for calibration."""
        return np.asarray(self.batch(slice(0, count))[0].numpy())


@dataclass(frozen=True)
class TrainingData:
    """`validation` decides about hyper-parameters and budgets; `test` is only reported."""

    name: str
    train: Samples
    validation: Samples
    test: Samples

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.values.shape[1:])


def load(
    source: str | os.PathLike[str], folder: datasets.Folder = None, validation: float = 0.1
) -> TrainingData:
    """A data set by name ("mnist", "cifar10", "digits"), or an .npz file.

    A file holds x (N, ...) float32 and y (N,) integers, and may hold x_test and y_test. Of
    the training samples the fraction `validation`, drawn with a fixed seed, is held out; with
    0 the training samples serve for validation, too. Without test samples those of
    validation are reported. Raises InputError for data that does not fit.
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation {validation:g} must be in 0..1")
    name = os.fspath(source)
    if name in datasets.NAMES:
        dataset = datasets.load(name, folder)
        if not len(dataset.train):
            raise InputError(f"data set '{name}' has no training samples")
        parts = [
            Samples(torch.tensor(s.values), torch.tensor(s.labels), dataset.full_scale)
            for s in (dataset.train, dataset.test)
        ]
    elif Path(name).suffix == ".npz":
        parts = _from_file(Path(name))
    else:
        raise InputError(
            f"data '{name}' is no .npz file and none of the data sets {', '.join(datasets.NAMES)}"
        )
    train, held = _split(parts[0], validation)
    return TrainingData(name, train, held, parts[1] if len(parts) > 1 else held)


def augmented(values: Tensor, how: str) -> Tensor:
    """Images (N, C, H, W) moved by up to one pixel ("shift", the batch together), or moved by up
    to four and mirrored ("crop-flip", each its own)."""
    if how == "none":
        return values
    if values.ndim != 4:
        raise InputError(f"augmentation '{how}' is for images, not for {list(values.shape[1:])}")
    height, width = values.shape[-2:]
    if how == "shift":
        dy, dx = (int(d) for d in torch.randint(2 * _SHIFT + 1, (2,)))
        padded = functional.pad(values, (_SHIFT,) * 4)
        return padded[..., dy : dy + height, dx : dx + width]
    if how != "crop-flip":
        raise InputError(f"augmentation '{how}' must be one of {', '.join(AUGMENTATIONS)}")
    count = len(values)
    padded = functional.pad(values, (_CROP,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    offsets = torch.randint(2 * _CROP + 1, (2, count))
    moved = windows[torch.arange(count), :, offsets[0], offsets[1]]
    mirror = torch.rand(count, 1, 1, 1) < 0.5
    return torch.where(mirror, moved.flip(3), moved)


def _from_file(path: Path) -> list[Samples]:
    arrays = load_npz(path)
    parts = []
    for x, y in (("x", "y"), ("x_test", "y_test")):
        if x not in arrays and x != "x":
            continue
        for name in (x, y):
            if name not in arrays:
                raise InputError(f"{path}: there is no array '{name}' in it")
        values, labels = arrays[x], arrays[y]
        if values.dtype.kind != "f" or values.ndim < 2 or not np.isfinite(values).all():
            raise InputError(f"{path}: {x} must be finite floats (N, ...)")
        if labels.dtype.kind not in "iu" or labels.shape != values.shape[:1] or not len(labels):
            raise InputError(f"{path}: {y} must be integers ({len(values)},), one per sample")
        if int(labels.min()) < 0:
            raise InputError(f"{path}: {y} holds negative labels")
        parts.append(
            Samples(
                torch.from_numpy(values.astype(np.float32)),
                torch.from_numpy(labels.astype(np.int64)),
            )
        )
    if len(parts) > 1 and parts[0].values.shape[1:] != parts[1].values.shape[1:]:
        raise InputError(f"{path}: x and x_test have samples of different shapes")
    return parts


def _split(samples: Samples, fraction: float) -> tuple[Samples, Samples]:
    held = round(fraction * len(samples))
    if not held:
        return samples, samples
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    order = torch.randperm(len(samples), generator=generator)
    if held == len(samples):
        raise InputError(f"{len(samples)} samples are too few to hold {fraction:g} of them out")
    return tuple(
        Samples(samples.values[rows], samples.labels[rows], samples.full_scale)
        for rows in (order[held:].sort().values, order[:held].sort().values)
    )  # type: ignore[return-value]
