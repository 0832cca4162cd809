"""Deep Compression on LeNet-300-100, LeNet-5 and ResNet-8: training to container, and a table.

    python benchmarks/compression.py run lenet300-paper --seed 0      # one row, minutes to an hour
    python benchmarks/compression.py all                              # every row and seed: hours
    python benchmarks/compression.py table --write                    # from what the runs left

Each run trains (or goes on from the checkpoint of a run that was stopped), compresses with
zeroskip.compression and measures the container with the C runtime over the whole test set, which
is looked at only then. `--held-out N` takes the last N training images for the test set instead,
to choose hyper-parameters.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Final

import torch
from torch import nn

from zeroskip import conversion
from zeroskip.compression import Compressed, Fit, Goal, Recipe, checkpoint, compress, samples
from zeroskip.compression.pipeline import CHECKPOINT, correct
from zeroskip.compression.samples import TrainingData
from zeroskip.compression.source import Source
from zeroskip.compression.training import Training, accuracy
from zeroskip.errors import ZeroSkipError
from zeroskip.models import LeNet5, LeNet300, ResNet8
from zeroskip.tools import write_whole

RESULTS: Final = Path(__file__).parent / "results"
TABLE: Final = Path(__file__).parent / "compression.md"
FIGURES: Final = "figures.json"
_LARGEST_KEPT: Final = 100_000


@dataclass(frozen=True)
class Network:
    """A network, its data, and how it is trained before anything is pruned."""

    make: type[nn.Module]
    data: str
    fit: Fit


@dataclass(frozen=True)
class Row:
    """A line of the table. `after` names the row whose pruned network this one starts from."""

    network: str
    goal: Goal
    recipe: Recipe
    after: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)


def _recipe(prune: Fit, share: Fit, centroids: int | Mapping[str, int], **more: Any) -> Recipe:
    return Recipe(prune=prune, share=share, centroids=centroids, **more)


NETWORKS: Final = {
    "lenet300": Network(LeNet300, "mnist", Fit(30, 1e-3, augment="shift")),
    "lenet5": Network(LeNet5, "mnist", Fit(10, 1e-3, augment="shift")),
    "resnet8": Network(
        ResNet8, "cifar10",
        Fit(25, 0.1, "sgd", 128, 5e-4, warm_up=0.2, augment="crop-flip"),
    ),
}  # fmt: skip

# The densities and index bits of Deep Compression, tables 2 and 3.
_PAPER_300: Final = {"fc1": 0.92, "fc2": 0.91, "fc3": 0.74}
_PAPER_5: Final = {"conv1": 0.34, "conv2": 0.88, "fc1": 0.92, "fc2": 0.81}
_SMALL_300: Final = {"fc1": 0.983, "fc2": 0.965, "fc3": 0.80}
_SMALL_5: Final = {"conv1": 0.65, "conv2": 0.976, "fc1": 0.9972, "fc2": 0.95}


def _mnist(epochs: int, rate: float = 1e-3, **more: Any) -> Fit:
    return Fit(epochs, rate, augment="shift", **more)


def _cifar(epochs: int, rate: float = 0.05, distill: float = 0.0) -> Fit:
    return Fit(epochs, rate, "sgd", 128, 5e-5, warm_up=0.1, augment="crop-flip", distill=distill)


ROWS: Final[dict[str, Row]] = {
    "lenet300-paper": Row(
        "lenet300", Goal(_PAPER_300), _recipe(_mnist(20), _mnist(3, 1e-4), 64)
    ),
    "lenet300-small": Row(
        "lenet300", Goal(_SMALL_300),
        _recipe(_mnist(40, 3e-3, distill=0.5), _mnist(6, 2e-4, distill=0.5), 16),
    ),
    "lenet5-paper": Row(
        "lenet5", Goal(_PAPER_5),
        _recipe(_mnist(5), _mnist(1, 1e-4), {"conv1": 64, "conv2": 64, "fc1": 32, "fc2": 32}),
    ),
    "lenet5-small": Row(
        "lenet5", Goal(_SMALL_5),
        _recipe(_mnist(14, 3e-3, distill=0.5), _mnist(2, 2e-4, distill=0.5), 8),
    ),
    "resnet8-80": Row(
        "resnet8", Goal(0.80),
        _recipe(_cifar(8, distill=0.5), _cifar(1, 1e-3, distill=0.5), 64), None, (0,),
    ),
    "resnet8-90-short": Row(
        "resnet8", Goal(0.90), _recipe(_cifar(20, 0.1), _cifar(1, 1e-3), 64), "resnet8-80", (0,)
    ),
    "resnet8-90": Row(
        "resnet8", Goal(0.90), _recipe(_cifar(60, 0.1), _cifar(1, 1e-3), 64),
        "resnet8-90-short", (0,),
    ),
    "resnet8-95": Row(
        "resnet8", Goal(0.95), _recipe(_cifar(2), _cifar(1, 1e-3), 64), "resnet8-90-short", (0,)
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Where data are and results go; `held_out` takes the last training images for the test
    set, to choose hyper-parameters."""

    folder: str | None
    out: Path
    held_out: int = 0
    _data: dict[str, TrainingData] = field(default_factory=dict)

    def data(self, name: str) -> TrainingData:
        if name not in self._data:
            whole = samples.load(name, self.folder, validation=0)
            if self.held_out:
                parts = [slice(0, -self.held_out), slice(-self.held_out, None)]
                train, test = (
                    samples.Samples(whole.train.values[p], whole.train.labels[p], 255)
                    for p in parts
                )
                whole = TrainingData(f"{name}-{self.held_out}", train, test, test)
            else:
                # The run is fixed: nothing is decided by the validation samples.
                few = slice(0, 1000)
                part = samples.Samples(whole.train.values[few], whole.train.labels[few], 255)
                whole = TrainingData(name, whole.train, part, whole.test)
            self._data[name] = whole
        return self._data[name]

    def place(self, name: str, seed: int) -> Path:
        place = self.out / (f"held-{self.held_out}" if self.held_out else ".") / f"{name}-{seed}"
        place.mkdir(parents=True, exist_ok=True)
        return place


def base(name: str, seed: int, settings: Settings) -> nn.Module:
    """The trained, unpruned network."""
    network = NETWORKS[name]
    data = settings.data(network.data)
    begun = time.monotonic()

    def make() -> Training:
        torch.manual_seed(seed)
        return Training(network.make(), data.train, network.fit)

    def report(training: Training, loss: float) -> None:
        spent = time.monotonic() - begun
        print(f"{name} {seed} {training.epoch}: {loss:.4f}, {spent:.0f} s", flush=True)

    path = settings.place(f"{name}-base", seed) / CHECKPOINT
    return checkpoint.train(make, path, f"{name} {network.fit} {seed}", report=report).model


def dense_int8(name: str, seed: int, settings: Settings) -> dict[str, Any]:
    """Bytes and test error of the unpruned network in int8 and float32."""
    path = settings.place(f"{name}-base", seed) / "dense.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    data = settings.data(NETWORKS[name].data)
    model = base(name, seed, settings).eval()
    blob = conversion.convert(model, calibration=data.train.take(1000), prefer="size", names=False)
    found = {
        "bytes": len(blob),
        "error": 100 - 100 * correct(blob, data.test),
        "float_error": 100 - 100 * accuracy(model, data.test),
    }
    write_whole(path, json.dumps(found).encode())
    return found


def run(name: str, seed: int, settings: Settings) -> Compressed:
    """One row with one seed; leaves its container and its figures in `settings.out`."""
    row = ROWS[name]
    network = NETWORKS[row.network]
    data = settings.data(network.data)
    if row.after is None:
        start = base(row.network, seed, settings).state_dict()
    else:
        if not (settings.place(row.after, seed) / FIGURES).is_file():
            run(row.after, seed, settings)
        before = checkpoint.load(settings.place(row.after, seed) / CHECKPOINT)
        assert before is not None
        start = before["kept"]
    recipe = Recipe(**{**vars(row.recipe), "seed": seed})
    place = settings.place(name, seed)
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{name} {seed} {time.monotonic() - begun:.0f} s: {line}", flush=True)

    def progress(steps: Any, total: int, what: str) -> Any:
        say(what)
        return steps

    teacher = base(row.network, seed, settings).state_dict()
    source = Source(row.network, network.make)
    result = compress(
        source, data, row.goal, recipe, place, start=start, teacher=teacher,
        progress=progress, say=say,
    )  # fmt: skip
    write_whole(place / "model.zsk", result.blob)
    figures = {
        "row": name,
        "seed": seed,
        "network": row.network,
        "bytes": len(result.blob),
        "error": round(100 - 100 * result.accuracy, 3),
        "float_error": round(100 - 100 * result.float_accuracy, 3),
        "weights": result.weights,
        "nonzero": result.nonzero,
        "float_bytes": result.float_bytes,
        "goal": asdict(row.goal),
        "held_out": settings.held_out,
    }
    if row.network == "resnet8":
        figures["dense_int8"] = dense_int8(row.network, seed, settings)
    write_whole(place / FIGURES, (json.dumps(figures, indent=1) + "\n").encode())
    print(json.dumps(figures), flush=True)
    return result


def table(settings: Settings) -> str:
    """The table of all rows whose runs are there, as Markdown."""
    lines = [
        "| row | zeros % | container bytes, mean (worst) | times smaller than float32 | "
        "test error %, mean (worst) | float32 test error % | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        found = [
            json.loads(path.read_text())
            for seed in row.seeds
            if (path := settings.out / f"{name}-{seed}" / FIGURES).is_file()
        ]
        if not found:
            continue
        sizes, errors = [f["bytes"] for f in found], [f["error"] for f in found]
        zeros = 100 - 100 * mean(f["nonzero"] / f["weights"] for f in found)
        ratio = mean(f["float_bytes"] / f["bytes"] for f in found)
        before = mean(f["float_error"] for f in found)
        lines.append(
            f"| {name} | {zeros:.2f} | {mean(sizes):,.0f} ({max(sizes):,}) | {ratio:.0f} | "
            f"{mean(errors):.2f} ({max(errors):.2f}) | {before:.2f} | "
            f"{', '.join(str(f['seed']) for f in found)} |"
        )
    return "\n".join(lines)


def publish(settings: Settings) -> None:
    """Keep the containers and figures of all runs beside the table."""
    RESULTS.mkdir(exist_ok=True)
    for name, row in ROWS.items():
        for seed in row.seeds:
            place = settings.out / f"{name}-{seed}"
            if not (place / FIGURES).is_file():
                continue
            for source, suffix in (("model.zsk", ".zsk"), (FIGURES, ".json")):
                content = (place / source).read_bytes()
                if len(content) <= _LARGEST_KEPT:
                    write_whole(RESULTS / f"{name}-{seed}{suffix}", content)
    write_whole(TABLE, (HEAD + table(settings) + "\n" + _dense_note(settings)).encode())


def _dense_note(settings: Settings) -> str:
    path = settings.out / "resnet8-base-0" / "dense.json"
    if not path.is_file():
        return ""
    dense = json.loads(path.read_text())
    return (
        f"\nResNet-8 unpruned: {dense['bytes']:,} bytes in int8 with {dense['error']:.2f} % test "
        f"error (C runtime), {dense['float_error']:.2f} % in float32, after "
        f"{NETWORKS['resnet8'].fit.epochs} epochs. That is short, and the pruned rows had more on "
        "top, so their distance flatters pruning.\n"
    )


HEAD: Final = """\
# Compression: from training to bytes

**Measured.** Bytes are those of the whole .zsk file without the names of layers, biases and tables
included; errors are those of the C runtime, running that file on the host, over the whole test
set (MNIST 10,000 images; CIFAR-10 10,000 images, read from JPEG copies for training and test).
Means and worst values are over the seeds, each with a network trained from scratch.

    make bench-compression     # compression.py all, then compression.py table --write

Recipes (epochs, rates, sparsities by layer) are in benchmarks/compression.py; files and figures of
each run in benchmarks/results. `-paper` rows have the densities and bits of Deep Compression (Han,
Mao and Dally 2016, tables 2 and 3: published 27 KB at 1.58 % and 44 KB at 0.74 %, without biases
or container). Each ResNet-8 row starts from the pruned network of another (`after` in ROWS).

"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "all", "table"])
    parser.add_argument("row", nargs="?", choices=sorted(ROWS), help="of run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"{TABLE.name} and results/")
    parser.add_argument("--data", help="folder of the data sets (default: $ZEROSKIP_DATA)")
    parser.add_argument("--out", type=Path, default=Path("build/compression"))
    parser.add_argument("--held-out", type=int, default=0, help="test on training images")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    settings = Settings(a.data, a.out, a.held_out)
    if a.command == "run":
        if a.row is None:
            parser.error("run needs a row")
        run(a.row, a.seed, settings)
    elif a.command == "all":
        for name, row in ROWS.items():
            for seed in row.seeds:
                run(name, seed, settings)
    elif a.write:
        publish(settings)
    else:
        print(table(settings))


if __name__ == "__main__":
    try:
        main()
    except ZeroSkipError as error:
        sys.exit(f"compression.py: {error}")
