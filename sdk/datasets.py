"""The data sets of the benchmarks, read from files that are already there.

Nothing is downloaded. The folder is given, or named by the environment variable ZEROSKIP_DATA;
it holds (itself, or in a folder `data`):

    mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]     the IDX files of MNIST
    cifar10_{train,test}_jpeg.npz     jpeg, offsets, label, classes: CIFAR-10 as JPEG bytes
    kws01.npz                         x, y: MFCC inputs of the MLPerf Tiny keyword task

The digits come with scikit-learn. Only numpy is needed, and Pillow for CIFAR-10.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.errors import InputError, MissingToolError

VARIABLE: Final = "ZEROSKIP_DATA"
_IDX_UBYTE: Final = 0x08
_MOST_BYTES: Final = 1 << 30
_CIFAR_SIDE: Final = 32

Folder = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Split:
    """`values` (N, C, H, W) as stored, integers; `labels` int64 (N,)."""

    values: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A classification data set; `train` is empty where only test data are there.

    `full_scale` is the stored integer that stands for 1.0 (0 where the integers are a model's
    own quantised inputs).
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    full_scale: int

    def scaled(self, split: Split) -> npt.NDArray[np.float32]:
        """The values as float32 (N, C, H, W) in 0..1."""
        if not self.full_scale:
            raise InputError(f"{self.name} holds quantised inputs; use them as they are")
        return split.values.astype(np.float32) / np.float32(self.full_scale)


def load(name: str, folder: Folder = None) -> Dataset:
    """The data set `name`, one of NAMES; see the functions below."""
    if name not in _LOADERS:
        raise InputError(f"no data set '{name}'; there are {', '.join(NAMES)}")
    return _LOADERS[name](folder)


def mnist(folder: Folder = None) -> Dataset:
    """MNIST: uint8 (N, 1, 28, 28), 60,000 and 10,000 images. Raises InputError without it."""
    splits = []
    for part in ("train", "t10k"):
        images = _idx(_find(f"mnist/{part}-images-idx3-ubyte", folder, ".gz"), 3)
        path = _find(f"mnist/{part}-labels-idx1-ubyte", folder, ".gz")
        labels = _idx(path, 1)
        _check_labels(path, labels, len(images), 10)
        splits.append(Split(images[:, np.newaxis], labels.astype(np.int64)))
    return Dataset("mnist", splits[0], splits[1], tuple("0123456789"), 255)


def digits(folder: Folder = None, seed: int = 0) -> Dataset:
    """scikit-learn's handwritten digits: uint8 (N, 1, 8, 8) in 0..16, split 80 : 20 with equal
    shares of each class. `folder` is not needed. Raises MissingToolError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingToolError(
            "the digits come with scikit-learn; run: pip install 'zeroskip[data]'"
        ) from None
    images, labels = load_digits(return_X_y=True)
    values = images.reshape(-1, 1, 8, 8).astype(np.uint8)
    parts = train_test_split(
        values, labels.astype(np.int64), test_size=0.2, random_state=seed, stratify=labels
    )
    return Dataset(
        "digits", Split(parts[0], parts[2]), Split(parts[1], parts[3]), tuple("0123456789"), 16
    )


def cifar10(folder: Folder = None) -> Dataset:
    """CIFAR-10 as JPEG: uint8 (N, 3, 32, 32) RGB, 50,000 and 10,000 images.

    Raises InputError without the files, MissingToolError without Pillow.
    """
    splits: list[Split] = []
    classes: tuple[str, ...] = ()
    for part in ("train", "test"):
        path = _find(f"cifar10_{part}_jpeg.npz", folder)
        arrays = _npz(path, ("jpeg", "offsets", "label", "classes"))
        classes = tuple(str(c) for c in arrays["classes"])
        images = _jpegs(path, arrays["jpeg"], arrays["offsets"])
        _check_labels(path, arrays["label"], len(images), len(classes))
        splits.append(Split(images, arrays["label"].astype(np.int64)))
    return Dataset("cifar10", splits[0], splits[1], classes, 255)


def kws01(folder: Folder = None) -> Dataset:
    """1,000 test inputs of the MLPerf Tiny keyword task: int8 (N, 49, 10, 1) MFCCs, quantised
    as the stock model takes them (NHWC, one channel); no training data."""
    path = _find("kws01.npz", folder)
    arrays = _npz(path, ("x", "y"))
    values = arrays["x"]
    if values.dtype != np.int8 or values.ndim != 4:
        raise InputError(f"{path}: x is {values.dtype} {list(values.shape)}, not int8 (N, H, W, C)")
    _check_labels(path, arrays["y"], len(values), 12)
    empty = Split(values[:0], np.zeros(0, np.int64))
    names = "down go left no off on right stop up yes silence unknown".split()
    return Dataset("kws01", empty, Split(values, arrays["y"].astype(np.int64)), tuple(names), 0)


_LOADERS: Final[dict[str, Callable[[Folder], Dataset]]] = {
    "mnist": mnist,
    "digits": digits,
    "cifar10": cifar10,
    "kws01": kws01,
}
NAMES: Final = tuple(_LOADERS)


def _find(relative: str, folder: Folder, *suffixes: str) -> Path:
    given = folder if folder is not None else os.environ.get(VARIABLE)
    if not given:
        raise InputError(
            f"{relative}: no data folder; give one, or set {VARIABLE} to the folder with it"
        )
    root = Path(given)
    for base in (root / "data", root):
        for suffix in ("", *suffixes):
            path = base / (relative + suffix)
            if path.is_file():
                return path
    raise InputError(f"{root}: no {relative} there or in its folder data; see {VARIABLE}")


def _idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes with `axes` axes, gzip or not."""
    header = 4 + 4 * axes
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(header)
            if len(head) < header or head[:3] != bytes((0, 0, _IDX_UBYTE)) or head[3] != axes:
                raise InputError(f"{path}: not an IDX file of bytes with {axes} axes")
            shape = struct.unpack(f">{axes}I", head[4:])
            size = int(np.prod([int(d) for d in shape], dtype=object))
            if not 0 < size <= _MOST_BYTES:
                raise InputError(f"{path}: shape {list(shape)} must have 1..{_MOST_BYTES} bytes")
            data = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged gzip file ({error})") from None
    if len(data) != size:
        what = "more" if len(data) > size else f"{len(data)}"
        raise InputError(f"{path}: holds {what} bytes, its header says {size}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _npz(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except OSError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: {str(error.args[0]).strip()}") from None
    except Exception as error:  # numpy, zipfile and zlib have errors of their own
        raise InputError(f"{path}: not a .npz file of plain arrays ({error})") from None


def _jpegs(
    path: Path, stream: npt.NDArray[Any], offsets: npt.NDArray[Any]
) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError:
        raise MissingToolError(
            "CIFAR-10 as JPEG needs Pillow; run: pip install 'zeroskip[data]'"
        ) from None
    ends = offsets.astype(np.int64)
    ordered = ends.ndim == 1 and ends.size > 0 and bool((np.diff(ends) >= 0).all())
    if not ordered or ends[0] != 0 or ends[-1] != stream.size or stream.dtype != np.uint8:
        raise InputError(f"{path}: offsets do not cut the jpeg bytes into images")
    raw = stream.tobytes()
    side = _CIFAR_SIDE
    images = np.empty((ends.size - 1, side, side, 3), np.uint8)
    for i, (start, end) in enumerate(pairwise(ends.tolist())):
        try:
            with Image.open(io.BytesIO(raw[start:end]), formats=("JPEG",)) as image:
                if image.size != (side, side):
                    raise InputError(f"{path}: image {i} is {image.size}, not {side} x {side}")
                images[i] = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path}: image {i} is not a JPEG ({error})") from None
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _check_labels(path: Path, labels: npt.NDArray[Any], count: int, classes: int) -> None:
    if labels.shape != (count,):
        raise InputError(f"{path}: labels of shape {list(labels.shape)} for {count} inputs")
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or (labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise InputError(f"{path}: labels must be integers in 0..{classes - 1}")
