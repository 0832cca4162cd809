"""Data sets read from files, and files that are not what they should be."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroskip import datasets
from zeroskip.errors import InputError, MissingToolError


def idx(array: Any) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, pack: Any = gzip.compress, suffix: str = ".gz") -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", 7), ("t10k", 3)):
        images = generator.integers(0, 256, (count, 28, 28))
        labels = np.arange(count) % 10
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize("inside", ["mnist", "data/mnist"])
@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (bytes, "")])
def test_mnist_files(tmp_path: Path, inside: str, pack: Any, suffix: str) -> None:
    write_mnist(tmp_path / inside, pack, suffix)
    data = datasets.load("mnist", tmp_path)
    assert data.train.values.shape == (7, 1, 28, 28) and data.train.values.dtype == np.uint8
    assert len(data.test) == 3 and data.test.labels.dtype == np.int64
    scaled = data.scaled(data.train)
    assert scaled.dtype == np.float32 and 0 <= scaled.min() < scaled.max() <= 1


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    assert len(datasets.mnist().train) == 7
    monkeypatch.delenv(datasets.VARIABLE)
    with pytest.raises(InputError, match="no data folder; give one, or set ZEROSKIP_DATA"):
        datasets.mnist()


def test_missing_files_and_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no mnist/train-images-idx3-ubyte there"):
        datasets.mnist(tmp_path)
    with pytest.raises(InputError, match="no data set 'imagenet'; there are mnist, digits"):
        datasets.load("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: gzip.compress(b"\x00\x00\x09" + b[3:]), "not an IDX file"),
        (lambda b: gzip.compress(b[:10]), "not an IDX file"),
        (lambda b: gzip.compress(b[:-1]), "its header says 5488"),
        (lambda b: gzip.compress(b + b"x"), "holds more bytes"),
        (lambda b: gzip.compress(b[:4] + b"\xff" * 12), "must have 1..1073741824 bytes"),
        (lambda b: gzip.compress(b)[:-20], "damaged gzip"),
        (lambda b: b, "damaged gzip"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, damage: Any, message: str) -> None:
    write_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(gzip.decompress(path.read_bytes())))
    with pytest.raises(InputError, match=message):
        datasets.mnist(tmp_path)


def test_labels_must_fit(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.arange(6))))
    with pytest.raises(InputError, match=r"labels of shape \[6\] for 7 inputs"):
        datasets.mnist(tmp_path)
    path.write_bytes(gzip.compress(idx(np.arange(4, 11))))
    with pytest.raises(InputError, match=r"labels must be integers in 0..9"):
        datasets.mnist(tmp_path)


def write_cifar(folder: Path, image: Any, **changes: Any) -> None:
    jpegs = []
    for shade in (10, 200):
        file = io.BytesIO()
        image.new("RGB", (32, 32), (shade, 0, 255 - shade)).save(file, "JPEG", quality=95)
        jpegs.append(file.getvalue())
    arrays = {
        "jpeg": np.frombuffer(b"".join(jpegs), np.uint8),
        "offsets": np.cumsum([0, *map(len, jpegs)]).astype(np.uint32),
        "label": np.array([3, 9], np.uint8),
        "classes": np.array([f"class {i}" for i in range(10)]),
    }
    arrays.update(changes)
    for part in ("train", "test"):
        np.savez(
            folder / f"cifar10_{part}_jpeg.npz",
            **{name: array for name, array in arrays.items() if array is not None},
        )


def test_cifar_images_are_decoded_channels_first(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    write_cifar(tmp_path, image)
    data = datasets.cifar10(tmp_path)
    assert data.train.values.shape == (2, 3, 32, 32)
    assert np.abs(data.test.values[1, :, 5, 5].astype(int) - [200, 0, 55]).max() <= 3
    assert data.classes[9] == "class 9" and data.test.labels.tolist() == [3, 9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0, 5, 3], np.uint32)}, "do not cut"),
        ({"offsets": np.array([0, 1 << 30], np.uint32)}, "do not cut"),
        ({"jpeg": np.zeros(20, np.uint8), "offsets": np.array([0, 20])}, "image 0 is not a JPEG"),
        ({"label": np.array([3, 12], np.uint8)}, "integers in 0..9"),
        ({"label": None}, "label is not a file in the archive"),
        ({"classes": np.array([{}], object)}, "not a .npz file of plain arrays"),
    ],
)
def test_damaged_cifar_files(tmp_path: Path, changes: Any, message: str) -> None:
    image = pytest.importorskip("PIL.Image")
    write_cifar(tmp_path, image, **changes)
    with pytest.raises(InputError, match=message):
        datasets.cifar10(tmp_path)


def test_cifar_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, pytest.importorskip("PIL.Image"))
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingToolError, match=r"zeroskip\[data\]"):
        datasets.cifar10(tmp_path)


def test_digits_are_split_evenly() -> None:
    pytest.importorskip("sklearn")
    data = datasets.digits()
    assert data.train.values.shape == (1437, 1, 8, 8) and len(data.test) == 360
    assert np.bincount(data.test.labels).min() >= 34
    assert data.scaled(data.test).max() == 1


def test_keyword_inputs(tmp_path: Path) -> None:
    values = np.zeros((4, 49, 10, 1), np.int8)
    np.savez(tmp_path / "kws01.npz", x=values, y=np.array([0, 11, 5, 5], np.uint8))
    data = datasets.kws01(tmp_path)
    assert len(data.train) == 0 and len(data.test) == 4 and len(data.classes) == 12
    with pytest.raises(InputError, match="use them as they are"):
        data.scaled(data.test)
    np.savez(tmp_path / "kws01.npz", x=values.astype(float), y=np.zeros(4, np.uint8))
    with pytest.raises(InputError, match=r"x is float64 \[4, 49, 10, 1\]"):
        datasets.kws01(tmp_path)


def test_the_shared_files(data_root: Path) -> None:
    assert len(datasets.mnist(data_root).test) == 10_000
    assert len(datasets.kws01(data_root).test) == 1_000
