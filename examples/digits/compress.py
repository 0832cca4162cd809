"""Pruning to a target sparsity with retraining, then sharing the weights that are left.

`prune` follows the gradual schedule of Zhu and Gupta, "To prune, or not to prune" (2017): the
sparsity rises as 1 - (1 - t)^3 and the smallest magnitudes of the whole network go first.
`share` follows Han, Mao and Dally, "Deep Compression" (2016): k-means per layer over the weights
that are left, started at evenly spaced values, then the centroids are trained.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from train import Progress, fit, no_progress


def weights_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions and linear layers by module name; biases are never pruned."""
    return {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    }


def sparsity(model: nn.Module) -> float:
    """The fraction of zeros among all weights; 0..1."""
    weights = weights_of(model).values()
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def magnitude_masks(model: nn.Module, target: float) -> dict[str, Tensor]:
    """1 for the weights that stay when the `target` fraction of smallest ones is removed.

    Magnitudes are compared after division by their layer's root mean square, so that no layer
    disappears because its weights are small as a whole.
    """
    scores = {
        name: weight.detach().abs() / weight.detach().pow(2).mean().sqrt().clamp_min(1e-12)
        for name, weight in weights_of(model).items()
    }
    ranked = torch.cat([score.flatten() for score in scores.values()]).sort(stable=True).values
    removed = min(int(np.ceil(target * ranked.numel())), ranked.numel() - 1)
    threshold = ranked[removed]
    return {name: (score >= threshold).float() for name, score in scores.items()}


def prune(
    model: nn.Sequential,
    x: Tensor,
    y: Tensor,
    *,
    target: float,
    epochs: int,
    seed: int,
    progress: Progress = no_progress,
) -> nn.Sequential:
    """A copy of `model` with the `target` fraction of its weights zero, retrained meanwhile.

    The sparsity rises over the first half of the epochs; the rest trains what is left.
    """
    model = copy.deepcopy(model)
    weights = weights_of(model)
    masks: dict[str, Tensor] = {}
    ramp = max(1, epochs // 2)

    def raise_sparsity(epoch: int) -> None:
        t = min(1.0, (epoch + 1) / ramp)
        if epoch < ramp:
            masks.update(magnitude_masks(model, target * (1 - (1 - t) ** 3)))
        apply_masks()

    def apply_masks() -> None:
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask)

    fit(
        model,
        x,
        y,
        epochs=epochs,
        learning_rate=4e-3,
        seed=seed,
        before_epoch=raise_sparsity,
        after_step=apply_masks,
        progress=progress,
        what=f"prune to {target:.0%}",
    )
    return model


def fold_batch_norm(model: nn.Sequential) -> nn.Sequential:
    """The same function without batch-norm: its factors multiplied into the convolutions.

    Sharing comes after folding, since the factors differ per channel and would pull equal
    weights apart again.
    """
    model = copy.deepcopy(model).eval()
    folded: list[nn.Module] = []
    for module in model:
        if isinstance(module, nn.BatchNorm2d) and folded and isinstance(folded[-1], nn.Conv2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], module)
        else:
            folded.append(module)
    return nn.Sequential(*folded)


def cluster(weight: Tensor, centroids: int) -> tuple[Tensor, Tensor]:
    """k-means over the non-zero elements of `weight`.

    Returns the centroids (k,), k at most `centroids`, and for each weight the index of its
    centroid, or -1 where the weight is zero.
    """
    values = weight.detach().numpy()
    nonzero = values != 0
    points = values[nonzero].reshape(-1, 1).astype(np.float64)
    index = np.full(values.shape, -1, dtype=np.int64)
    if points.size == 0:
        return torch.empty(0), torch.from_numpy(index)
    k = min(centroids, len(np.unique(points)))
    start = np.linspace(points.min(), points.max(), k).reshape(-1, 1)
    found = KMeans(k, init=start, n_init=1, max_iter=300).fit(points)
    index[nonzero] = found.labels_
    return (
        torch.from_numpy(found.cluster_centers_.reshape(-1).astype(np.float32)),
        torch.from_numpy(index),
    )


def share(
    model: nn.Sequential,
    x: Tensor,
    y: Tensor,
    *,
    centroids: int,
    epochs: int,
    seed: int,
    progress: Progress = no_progress,
) -> nn.Sequential:
    """A copy of `model` whose layers use at most `centroids` distinct non-zero weights each.

    After k-means the centroids are trained: each step moves a centroid by the mean of the steps
    of the weights that share it. Zero weights stay zero.
    """
    model = copy.deepcopy(model)
    weights = weights_of(model)
    codebooks = {name: cluster(weight, centroids) for name, weight in weights.items()}

    def snap() -> None:
        """Give the weights of each cluster, which a step moves apart, their mean again."""
        with torch.no_grad():
            for name, (values, index) in codebooks.items():
                weight = weights[name]
                used = index >= 0
                members = index[used]
                sums = torch.zeros_like(values).index_add_(0, members, weight[used])
                counts = torch.bincount(members, minlength=len(values)).clamp_min(1)
                values.copy_(sums / counts)
                weight.zero_()
                weight[used] = values[members]

    snap()
    fit(
        model,
        x,
        y,
        epochs=epochs,
        learning_rate=1e-3,
        seed=seed,
        after_step=snap,
        progress=progress,
        what=f"share {centroids} weights per layer",
    )
    return model
