"""Models and data from files: what is taken, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from zeroskip.compression import samples, source  # noqa: E402
from zeroskip.compression.samples import augmented  # noqa: E402
from zeroskip.compression.training import Fit  # noqa: E402
from zeroskip.errors import InputError, ModelError  # noqa: E402


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("def make(): return 3", "m.py:make", "gave a int, not an nn.Module"),
        ("def make(): raise ValueError('no')", "m.py:make", r"make\(\) failed: ValueError: no"),
        ("x = 1", "m.py:make", "no function or class 'make'"),
        ("x = (", "m.py:make", "SyntaxError"),
        ("", "n.py:make", "there is no such file"),
        ("", "m.py", "must be FILE.py:factory, module:factory or FILE.pt2"),
        ("", "m.pt", "must be FILE.py:factory, module:factory or FILE.pt2"),
    ],
)
def test_bad_factories(tmp_path: Path, text: str, spec: str, message: str) -> None:
    (tmp_path / "m.py").write_text(text)
    with pytest.raises(InputError, match=message):
        source.load(str(tmp_path / spec)).make()


def test_a_factory_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_net.py").write_text("from torch import nn\nLayer = nn.Linear\n")
    (tmp_path / "m.py").write_text(
        "from neighbour_of_net import Layer\ndef make(): return Layer(2, 3)"
    )
    assert source.load(str(tmp_path / "m.py:make")).make().out_features == 3


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ModelError, match=r"no readable .pt2 file"):
        source.load(str(tmp_path / "m.pt2"))


def arrays(**changed: object) -> dict[str, object]:
    x = np.zeros((20, 1, 4, 4), np.float32)
    return {"x": x, "y": np.arange(20) % 2} | changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.zeros((20, 4), np.int8)}, "x must be finite floats"),
        ({"x": np.full((20, 4), np.nan, np.float32)}, "x must be finite floats"),
        ({"y": np.zeros(19, np.int64)}, "y must be integers"),
        ({"y": np.zeros(20, np.float32)}, "y must be integers"),
        ({"y": np.arange(20) - 1}, "negative labels"),
        ({"x_test": np.zeros((2, 5), np.float32)}, "no array 'y_test'"),
        ({"x_test": np.zeros((2, 5), np.float32), "y_test": np.zeros(2, int)}, "different shapes"),
    ],
)
def test_bad_samples(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays(**changed))
    with pytest.raises(InputError, match=message):
        samples.load(tmp_path / "d.npz")


def test_other_files_and_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the data sets"):
        samples.load("imagenet")
    (tmp_path / "d.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"not a .npy or .npz file"):
        samples.load(tmp_path / "d.npz")
    with pytest.raises(InputError, match=r"must be in 0\.\.1"):
        samples.load("digits", validation=1.0)


def test_validation_samples_are_held_out_and_always_the_same(tmp_path: Path) -> None:
    x = np.arange(80, dtype=np.float32).reshape(20, 4)
    np.savez(tmp_path / "d.npz", **arrays(x=x))
    a, b = (samples.load(tmp_path / "d.npz", validation=0.25) for _ in range(2))
    assert len(a.train) == 15 and len(a.validation) == 5 and a.test is a.validation
    assert torch.equal(a.validation.values, b.validation.values)
    held = set(a.validation.values[:, 0].tolist())
    assert not held & set(a.train.values[:, 0].tolist())
    whole = samples.load(tmp_path / "d.npz", validation=0)
    assert len(whole.train) == 20 and whole.validation is whole.train


def test_augmentation_moves_images_and_nothing_else() -> None:
    torch.manual_seed(0)
    x = torch.zeros(50, 1, 9, 9)
    x[:, :, 4, 4] = 1
    for how, reach in (("none", 0), ("shift", 1), ("crop-flip", 4)):
        seen = set()
        for _ in range(100):
            moved = augmented(x, how)
            assert moved.shape == x.shape and (moved.sum((1, 2, 3)) == 1).all()
            seen |= {tuple(p) for p in (moved[:, 0] == 1).nonzero()[:, 1:].tolist()}
        assert seen == {
            (4 + dy, 4 + dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)
        }
    with pytest.raises(InputError, match="is for images"):
        augmented(torch.zeros(3, 5), "shift")


@pytest.mark.parametrize(
    "arguments",
    [{"epochs": -1}, {"rate": 0.0}, {"optimizer": "lion"}, {"batch": 0}, {"augment": "cut"},
     {"distill": 2.0}],
)  # fmt: skip
def test_training_settings_that_make_no_sense(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Fit(**({"epochs": 1, "rate": 1e-3} | arguments))  # type: ignore[arg-type]
