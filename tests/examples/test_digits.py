"""The demo's training and compression do what they say, on a few epochs."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
sys.path.insert(0, str(EXAMPLE))

import compress  # noqa: E402
import train  # noqa: E402


@pytest.fixture(scope="module")
def digits() -> train.Digits:
    return train.load()


@pytest.fixture(scope="module")
def trained(digits: train.Digits) -> torch.nn.Sequential:
    model = train.build_network()
    train.fit(model, digits.train_x, digits.train_y, epochs=4, learning_rate=4e-3, seed=0)
    return model


def test_the_split_is_disjoint_and_balanced(digits: train.Digits) -> None:
    assert len(digits.train_x) + len(digits.test_x) == 1797
    assert digits.test_x.shape[1:] == (1, 8, 8)
    assert 0.0 <= float(digits.test_x.min()) and float(digits.test_x.max()) == 1.0
    seen = {image.numpy().tobytes() for image in digits.train_x}
    repeats = sum(image.numpy().tobytes() in seen for image in digits.test_x)
    assert repeats == 0
    assert min(torch.bincount(digits.test_y)) >= 34


def test_training_learns(trained: torch.nn.Sequential, digits: train.Digits) -> None:
    logits = train.predict(trained, digits.test_x)
    assert logits.shape == (len(digits.test_x), 10)
    assert train.accuracy(logits, digits.test_y) > 0.9


def test_masks_keep_the_largest_magnitudes(trained: torch.nn.Sequential) -> None:
    masks = compress.magnitude_masks(trained, 0.75)
    kept = sum(float(mask.sum()) for mask in masks.values())
    total = sum(mask.numel() for mask in masks.values())
    assert kept / total == pytest.approx(0.25, abs=1e-3)
    for name, weight in compress.weights_of(trained).items():
        magnitude, mask = weight.detach().abs(), masks[name].bool()
        if mask.any() and not mask.all():
            assert magnitude[mask].min() >= magnitude[~mask].max()


def test_pruning_reaches_its_target_and_the_original_stays(
    trained: torch.nn.Sequential, digits: train.Digits
) -> None:
    before = compress.sparsity(trained)
    pruned = compress.prune(trained, digits.train_x, digits.train_y, target=0.9, epochs=6, seed=1)
    assert compress.sparsity(pruned) >= 0.9
    assert compress.sparsity(trained) == before < 0.01
    assert train.accuracy(train.predict(pruned, digits.test_x), digits.test_y) > 0.85


def test_folding_batch_norm_changes_no_output(
    trained: torch.nn.Sequential, digits: train.Digits
) -> None:
    folded = compress.fold_batch_norm(trained)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded)
    np.testing.assert_allclose(
        train.predict(folded, digits.test_x), train.predict(trained, digits.test_x), atol=2e-4
    )


def test_sharing_leaves_few_values_and_the_same_zeros(
    trained: torch.nn.Sequential, digits: train.Digits
) -> None:
    folded = compress.fold_batch_norm(trained)
    masks = compress.magnitude_masks(folded, 0.5)
    with torch.no_grad():
        for name, weight in compress.weights_of(folded).items():
            weight.mul_(masks[name])
    shared = compress.share(folded, digits.train_x, digits.train_y, centroids=16, epochs=2, seed=2)
    for name, weight in compress.weights_of(shared).items():
        assert len(weight[weight != 0].unique()) <= 16
        assert torch.equal(weight == 0, masks[name] == 0)
    assert train.accuracy(train.predict(shared, digits.test_x), digits.test_y) > 0.8


def test_a_layer_without_weights_left_is_shared_too() -> None:
    centroids, index = compress.cluster(torch.zeros(3, 4), 16)
    assert len(centroids) == 0
    assert bool((index == -1).all())
