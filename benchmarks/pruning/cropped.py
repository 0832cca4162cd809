"""Networks that see the middle 20 x 20 pixels, in which MNIST's digits were drawn: hardly any of
these is dark in every image, as a third of all pixels nearly are."""

import torch
from torch import nn

from zeroskip.models import LeNet300


class Cropped(nn.Module):
    """`network` on the middle of images (N, 1, 28, 28)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.network(x[..., 4:24, 4:24])
        return scores


def lenet300() -> nn.Module:
    """LeNet-300-100 with 400 inputs, initialised as in networks.py."""
    model = LeNet300(inputs=400)
    for layer in (model.fc1, model.fc2, model.fc3):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return Cropped(model)
