"""LeNet-300-100 and LeNet-5 on MNIST, from training to the bytes of the container.

    python benchmarks/lenet.py lenet300-small --seed 0 --data FOLDER --out build/lenet

Trains, prunes with retraining, shares weights, trains the centroids, converts with
zeroskip.convert and runs the C runtime over all 10,000 test images. After every epoch a
checkpoint is written (whole or not at all); the same command goes on from it. The last line
printed, and RECIPE-seed.json, hold the result. The test set is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import zeroskip
from zeroskip import datasets, pruning, sharing
from zeroskip.errors import InputError
from zeroskip.models import LeNet5, LeNet300

BATCH: Final = 100
CALIBRATION: Final = 1000


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one run.

    The three rates are Adam's at the start of each phase; all fall to 0 along a cosine.
    `method` and `options` go to zeroskip.pruning.attach (`warm_up` is in epochs here).
    """

    network: type[nn.Module]
    method: str
    options: Mapping[str, Any]
    centroids: int | Mapping[str, int]
    train_epochs: int
    prune_epochs: int
    tune_epochs: int
    share_epochs: int
    rate: float = 1e-3
    prune_rate: float = 1e-3
    tune_rate: float = 3e-4
    share_rate: float = 1e-4
    noise_rate: float = 1e-3
    shift: int = 0
    per_layer: Mapping[str, float] = field(default_factory=dict)


RECIPES: Final[dict[str, Recipe]] = {
    # The densities and index bits of Deep Compression, tables 2 and 3.
    "lenet300-paper": Recipe(
        LeNet300, "magnitude", {"scope": "layerwise"},
        64, train_epochs=20, prune_epochs=20, tune_epochs=10, share_epochs=3, shift=1,
        per_layer={"fc1": 0.92, "fc2": 0.91, "fc3": 0.74},
    ),
    "lenet300-small": Recipe(
        LeNet300, "magnitude", {},
        16, train_epochs=20, prune_epochs=50, tune_epochs=20, share_epochs=10, shift=1,
        per_layer={"fc1": 0.983, "fc2": 0.965, "fc3": 0.80},
    ),
    "lenet300-smallest": Recipe(
        LeNet300, "magnitude", {},
        8, train_epochs=20, prune_epochs=50, tune_epochs=20, share_epochs=10, shift=1,
        per_layer={"fc1": 0.9885, "fc2": 0.975, "fc3": 0.85},
    ),
    "lenet300-variational": Recipe(
        LeNet300, "variational", {"warm_up": (3, 15)},
        16, train_epochs=10, prune_epochs=40, tune_epochs=10, share_epochs=10,
        noise_rate=1e-2,
    ),
    "lenet5-paper": Recipe(
        LeNet5, "magnitude", {"scope": "layerwise"},
        {"conv1": 64, "conv2": 64, "fc1": 32, "fc2": 32},
        train_epochs=8, prune_epochs=8, tune_epochs=4, share_epochs=2, shift=1,
        per_layer={"conv1": 0.34, "conv2": 0.88, "fc1": 0.92, "fc2": 0.81},
    ),
    "lenet5-small": Recipe(
        LeNet5, "magnitude", {},
        8, train_epochs=6, prune_epochs=10, tune_epochs=4, share_epochs=2, shift=1,
        per_layer={"conv1": 0.65, "conv2": 0.975, "fc1": 0.9965, "fc2": 0.95},
    ),
    "lenet5-variational": Recipe(
        LeNet5, "variational", {"warm_up": (2, 10)},
        8, train_epochs=5, prune_epochs=30, tune_epochs=5, share_epochs=5,
        noise_rate=1e-2,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Training images float32 (N, 1, 28, 28) in 0..1 and labels int64 (N,)."""

    x: Tensor
    y: Tensor


class Run:
    """One recipe with one seed; its phases and checkpoints."""

    def __init__(self, name: str, recipe: Recipe, seed: int, data: Samples, out: Path) -> None:
        self.name, self.recipe, self.seed, self.data = name, recipe, seed, data
        self.path = out / f"{name}-{seed}.pt"
        self.steps = -(-len(data.y) // BATCH)

    def model(self) -> nn.Module:
        """The finished network: pruned, shared, centroids trained."""
        r = self.recipe
        torch.manual_seed(self.seed)
        model = r.network()
        self._phase("train", model, r.train_epochs, [(list(model.parameters()), r.rate)])
        pruner = self._attach(model)
        own = pruner.parameters()
        rest = [p for p in model.parameters() if all(p is not q for q in own)]
        groups = [(rest, r.prune_rate), (own, r.noise_rate)]
        self._phase("prune", model, r.prune_epochs, groups, pruner)
        pruner.finish()
        print(f"  {_sparsities(model)}", flush=True)
        self._phase("tune", model, r.tune_epochs, [(list(model.parameters()), r.tune_rate)])
        for layer in sharing.share(model, r.centroids, init="optimal"):
            print(f"  {layer}", flush=True)
        groups = [(list(model.parameters()), r.share_rate)]
        self._phase("share", model, r.share_epochs, groups)
        return model.eval()

    def _attach(self, model: nn.Module) -> pruning.Pruner:
        r = self.recipe
        options = dict(r.options)
        if r.method == "variational":
            first, last = options["warm_up"]
            options["warm_up"] = (first * self.steps, last * self.steps)
            return pruning.attach(r.method, model, samples=len(self.data.y), **options)
        ramp = r.prune_epochs * self.steps // 2
        if r.per_layer:
            return _Layers(model, r.per_layer, ramp)
        return pruning.attach(r.method, model, steps=ramp, **options)

    def _phase(
        self,
        phase: str,
        model: nn.Module,
        epochs: int,
        groups: list[tuple[list[nn.Parameter], float]],
        pruner: pruning.Pruner | None = None,
    ) -> None:
        """Train for `epochs`, from the checkpoint if there is one of this phase or a later."""
        optimizer = torch.optim.Adam(
            [{"params": p, "lr": rate} for p, rate in groups if p], fused=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * self.steps)
        order = ("train", "prune", "tune", "share")
        state = _load(self.path)
        start = 0
        if state is not None and phase in state["phases"]:
            saved = state["phases"][phase]
            model.load_state_dict(saved["model"])
            if pruner is not None:
                pruner.load_state_dict(saved["pruner"])
            start = saved["epoch"]
            if start < epochs:
                optimizer.load_state_dict(saved["optimizer"])
                schedule.load_state_dict(saved["schedule"])
            torch.set_rng_state(saved["random"])
        for epoch in range(start, epochs):
            begun = time.monotonic()
            loss = self._epoch(model, optimizer, schedule, pruner)
            done = {p: v for p, v in (state or {"phases": {}})["phases"].items()
                    if order.index(p) < order.index(phase)}  # fmt: skip
            done[phase] = {
                "model": model.state_dict(), "epoch": epoch + 1,
                "optimizer": optimizer.state_dict() if epoch + 1 < epochs else None,
                "schedule": schedule.state_dict(), "random": torch.get_rng_state(),
                "pruner": pruner.state_dict() if pruner is not None else None,
            }  # fmt: skip
            _save(self.path, {"phases": done})
            print(
                f"{self.name} seed {self.seed} {phase} {epoch + 1}/{epochs}: loss {loss:.4f}, "
                f"{time.monotonic() - begun:.1f} s, {_sparsities(model)}",
                flush=True,
            )

    def _epoch(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        pruner: pruning.Pruner | None,
    ) -> float:
        model.train()
        total = 0.0
        for rows in torch.split(torch.randperm(len(self.data.y)), BATCH):
            x = _shifted(self.data.x[rows], self.recipe.shift)
            loss = functional.cross_entropy(model(x), self.data.y[rows])
            total += float(loss.detach())
            if pruner is not None:
                loss = loss + pruner.penalty()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if pruner is not None:
                pruner.step()
        return total / self.steps


class _Layers:
    """Magnitude pruning to another sparsity in each layer; one pruner per layer."""

    def __init__(self, model: nn.Module, sparsities: Mapping[str, float], steps: int) -> None:
        self._pruners = [
            pruning.attach("magnitude", model, select=_only(name), sparsity=s, steps=steps)
            for name, s in sparsities.items()
        ]

    def step(self) -> None:
        for pruner in self._pruners:
            pruner.step()

    def penalty(self) -> Tensor:
        return torch.zeros(())

    def parameters(self) -> list[nn.Parameter]:
        return []

    def finish(self) -> None:
        for pruner in self._pruners:
            pruner.finish()

    def state_dict(self) -> dict[str, Any]:
        return {"pruners": [pruner.state_dict() for pruner in self._pruners]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for pruner, saved in zip(self._pruners, state["pruners"], strict=True):
            pruner.load_state_dict(saved)


def _only(layer: str) -> Callable[[str, nn.Module], bool]:
    return lambda name, _: name == f"{layer}.weight"


def _shifted(x: Tensor, most: int) -> Tensor:
    """The batch moved by up to `most` pixels in both directions, for augmentation."""
    if not most:
        return x
    dy, dx = (int(d) for d in torch.randint(-most, most + 1, (2,)))
    padded = functional.pad(x, (most, most, most, most))
    height, width = x.shape[-2:]
    return padded[..., most + dy : most + dy + height, most + dx : most + dx + width]


def _sparsities(model: nn.Module) -> str:
    mode = model.training
    model.eval()
    parts = [f"{100 * float((t.value == 0).float().mean()):.2f}"
             for t in pruning.targets(model).values()]  # fmt: skip
    model.train(mode)
    left = sum(int((t.value != 0).sum()) for t in pruning.targets(model.eval()).values())
    model.train(mode)
    return f"{left} weights, zeros % {' '.join(parts)}"


def _save(path: Path, state: Mapping[str, Any]) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _load(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch and pickle have errors of their own
        raise InputError(f"{path}: not a checkpoint of this program ({error})") from None
    return state


def measure(model: nn.Module, train: Samples, test: Samples) -> tuple[bytes, float, float]:
    """(container, test error in % of the C runtime, of the torch model)."""
    blob = zeroskip.convert(
        model, calibration=train.x[:CALIBRATION].numpy(), prefer="size", names=False
    )
    scores = zeroskip.Model(blob).run(test.x.numpy())
    error = 100 * float(np.mean(np.argmax(scores, axis=1) != test.y.numpy()))
    with torch.no_grad():
        guess = torch.cat([model(x).argmax(1) for x in torch.split(test.x, 1000)])
    return blob, error, 100 * float((guess != test.y).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help=f"folder with mnist/; default: ${datasets.VARIABLE}")
    parser.add_argument("--out", type=Path, default=Path("build/lenet"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    mnist = datasets.mnist(arguments.data)
    train, test = (
        Samples(torch.from_numpy(mnist.scaled(s)), torch.from_numpy(s.labels))
        for s in (mnist.train, mnist.test)
    )
    recipe = RECIPES[arguments.recipe]
    model = Run(arguments.recipe, recipe, arguments.seed, train, arguments.out).model()
    blob, error, torch_error = measure(model, train, test)
    stem = arguments.out / f"{arguments.recipe}-{arguments.seed}"
    stem.with_suffix(".zsk").write_bytes(blob)
    weights = [t.value for t in pruning.targets(model).values()]
    result = {
        "recipe": arguments.recipe,
        "seed": arguments.seed,
        "bytes": len(blob),
        "test_error_percent": round(error, 3),
        "torch_test_error_percent": round(torch_error, 3),
        "nonzero": sum(int((w != 0).sum()) for w in weights),
        "weights": sum(w.numel() for w in weights),
    }
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
