"""Deep Compression on LeNet-300-100, LeNet-5 and ResNet-8: training to container, and a table.

    python benchmarks/compression.py base resnet8 --seed 0
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

from zeroskip.compression import checkpoint, samples
from zeroskip.compression.training import Fit, Training, accuracy
from zeroskip.models import LeNet5, LeNet300, ResNet8


@dataclass(frozen=True)
class Network:
    """A network, its data, and how it is trained before anything is pruned."""

    make: type[nn.Module]
    data: str
    fit: Fit


NETWORKS: Final = {
    "lenet300": Network(LeNet300, "mnist", Fit(30, 1e-3, augment="shift")),
    "lenet5": Network(LeNet5, "mnist", Fit(10, 1e-3, augment="shift")),
    "resnet8": Network(
        ResNet8, "cifar10",
        Fit(25, 0.1, "sgd", 128, 5e-4, warm_up=0.2, augment="crop-flip"),
    ),
}  # fmt: skip


def base(name: str, seed: int, out: Path, data: samples.TrainingData) -> nn.Module:
    """The trained, unpruned network."""
    network = NETWORKS[name]

    def make() -> Training:
        torch.manual_seed(seed)
        return Training(network.make(), data.train, network.fit)

    begun = time.monotonic()

    def report(epoch: int, loss: float) -> None:
        print(f"{name} {seed} {epoch}: {loss:.4f}, {time.monotonic() - begun:.0f} s", flush=True)

    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}-base-{seed}.pt"
    return checkpoint.train(make, path, f"{name} {network.fit} {seed}", report=report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["base"])
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path, default=Path("build/compression"))
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    data = samples.load(NETWORKS[a.network].data, a.data, validation=0)
    model = base(a.network, a.seed, a.out, data)
    print(f"test accuracy {accuracy(model, data.test):.4f}")


if __name__ == "__main__":
    main()
