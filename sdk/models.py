"""Small reference networks for examples, benchmarks and tests. Needs torch.

All take float32 images (N, C, H, W) and give class scores (N, classes) without a softmax.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from zeroskip.errors import InputError


class LeNet300(nn.Module):
    """The multi-layer perceptron 784-300-100-10 (LeCun et al. 1998) that pruning papers use.

    266,610 parameters at the default sizes. Input (N, C, H, W) with C * H * W = `inputs`.
    """

    def __init__(self, inputs: int = 784, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        x = torch.relu(self.fc2(x))
        scores: torch.Tensor = self.fc3(x)
        return scores


class LeNet5(nn.Module):
    """LeNet-5 in Caffe's form, as Han et al. 2015 prune it: 431,080 parameters.

    Two 5x5 convolutions (20 and 50 filters) with 2x2 max pooling, then 500 and `classes`
    units. Input (N, 1, 28, 28).
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        scores: torch.Tensor = self.fc2(x)
        return scores


class ResNet8(nn.Module):
    """The residual network of MLPerf Tiny's image classification: 3 stages of 16, 32 and 64
    filters, 77,360 weights without batch-norm (Banbury et al. 2021).

    Input (N, 3, 32, 32).
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.stage1 = _Residual(16, 16, 1)
        self.stage2 = _Residual(16, 32, 2)
        self.stage3 = _Residual(32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        scores: torch.Tensor = self.classifier(torch.flatten(self.pool(x), 1))
        return scores


class _Residual(nn.Module):
    """Two 3x3 convolutions, and a strided 1x1 one beside them where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        result: torch.Tensor = torch.relu(y + self.shortcut(x))
        return result


_IMAGE_SIZES: Final = (8, 28)


class SmallResNet(nn.Module):
    """A small CNN with a residual sum, a depthwise-separable layer and strided convolutions.

    Input (N, 1, image_size, image_size) with image_size 8 (scikit-learn's digits) or 28
    (MNIST-like), which gets one more strided layer first. `width` is the number of filters of
    the first stage and must be positive. Raises InputError for other sizes.
    """

    def __init__(
        self, image_size: int = 8, classes: int = 10, width: int = 16, batch_norm: bool = True
    ) -> None:
        super().__init__()
        if image_size not in _IMAGE_SIZES:
            sizes = " or ".join(map(str, _IMAGE_SIZES))
            raise InputError(f"image_size {image_size} is not supported; use {sizes}")
        if width < 1:
            raise InputError(f"width {width} must be at least 1")

        def layer(
            inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
        ) -> nn.Sequential:
            conv = nn.Conv2d(
                inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not batch_norm
            )
            return nn.Sequential(conv, *([nn.BatchNorm2d(outputs)] if batch_norm else []))

        self.stem = layer(1, width, 5 if image_size == 28 else 3, 2 if image_size == 28 else 1)
        self.block1 = layer(width, width, 3)
        self.block2 = layer(width, width, 3)
        self.down = layer(width, 2 * width, 3, stride=2)
        self.depthwise = layer(2 * width, 2 * width, 3, stride=2, groups=2 * width)
        self.pointwise = layer(2 * width, 2 * width, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        residual = self.block2(torch.relu(self.block1(x)))
        x = torch.relu(x + residual)
        x = torch.relu(self.down(x))
        x = torch.relu(self.depthwise(x))
        x = torch.relu(self.pointwise(x))
        scores: torch.Tensor = self.classifier(torch.flatten(self.pool(x), 1))
        return scores
