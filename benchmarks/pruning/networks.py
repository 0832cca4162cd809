"""Networks of the experiments, initialised as their papers do."""

from torch import nn

from zeroskip.models import LeNet300


def lenet300() -> nn.Module:
    """LeNet-300-100 with variance scaling (He et al. 2015) and biases of 0: torch's own
    initialisation is smaller, and very sparse networks learn the worse from it."""
    model = LeNet300()
    for layer in (model.fc1, model.fc2, model.fc3):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return model
