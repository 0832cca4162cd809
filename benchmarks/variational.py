"""Sparse variational dropout on LeNet-300-100: how sparse it gets by itself, and at what error.

    python benchmarks/variational.py --seed 0 --epochs 60

Molchanov, Ashukha and Vetrov (2017) report 68 times fewer weights at 1.92 % after 200 epochs. The
error is that of the C runtime, running the int8 container, over the whole test set.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

import zeroskip
from zeroskip import pruning
from zeroskip.compression import Fit, checkpoint, samples
from zeroskip.compression.pipeline import correct
from zeroskip.compression.training import Training
from zeroskip.errors import ZeroSkipError
from zeroskip.models import LeNet300

NOISE_RATE = 1e-2  # Adam's for log sigma^2; the paper's 1e-3 needs its 200 epochs
WARM_UP = (0.05, 0.3)  # fractions of all steps between which the divergence gets its weight


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--data", help="folder of the data sets (default: $ZEROSKIP_DATA)")
    parser.add_argument("--out", type=Path, default=Path("build/variational"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    data = samples.load("mnist", a.data, validation=0)
    fit = Fit(a.epochs, 1e-3)

    def make() -> Training:
        torch.manual_seed(a.seed)
        model = LeNet300()
        steps = fit.steps(data.train)
        pruner = pruning.attach(
            "variational", model, samples=len(data.train),
            warm_up=(round(WARM_UP[0] * steps), round(WARM_UP[1] * steps)),
        )  # fmt: skip
        return Training(model, data.train, fit, pruner=pruner, own_rate=NOISE_RATE)

    begun = time.monotonic()

    def report(training: Training, loss: float) -> None:
        left = pruning.sparsity(training.model.eval())
        training.model.train()
        print(
            f"{training.epoch}: loss {loss:.4f}, {100 * left:.2f} % zeros, "
            f"{time.monotonic() - begun:.0f} s",
            flush=True,
        )

    a.out.mkdir(parents=True, exist_ok=True)
    path = a.out / f"lenet300-{a.seed}.pt"
    training = checkpoint.train(make, path, f"variational {fit} {a.seed}", report=report)
    assert training.pruner is not None
    training.pruner.finish()
    model = training.model.eval()
    blob = zeroskip.convert(model, calibration=data.train.take(1000), names=False)
    weights = [t.value for t in pruning.targets(model).values()]
    nonzero = sum(int((w != 0).sum()) for w in weights)
    print(
        json.dumps(
            {
                "seed": a.seed,
                "epochs": a.epochs,
                "times_fewer_weights": round(sum(w.numel() for w in weights) / nonzero, 1),
                "nonzero": [int((w != 0).sum()) for w in weights],
                "error": round(100 - 100 * correct(blob, data.test), 2),
                "bytes_without_sharing": len(blob),
            }
        )
    )


if __name__ == "__main__":
    try:
        main()
    except ZeroSkipError as error:
        sys.exit(f"variational.py: {error}")
