"""Lottery tickets and linear mode connectivity: LeNet-300-100 on MNIST.

    python benchmarks/tickets.py run --seed 0      # and 1, 2: a quarter of an hour each
    python benchmarks/tickets.py early --seed 0    # the same
    python benchmarks/tickets.py table --write

Iterative magnitude pruning in the ways of two papers; both rewind to initialisation (Glorot,
biases 0) and train with Adam at 1.2e-3, constant, in batches of 60.

`run` is Frankle et al. (2020) and their code: a fifth of the weights left goes in each round, the
smallest of the network, but for the output layer, which is not pruned; 24,000 steps on all 60,000
training images, and what counts is the accuracy at the end.

`early` is Frankle and Carbin (2019): a fifth of each layer, a tenth of the output layer; 5,000
training images are held out, and what counts is the accuracy at the step of the lowest
validation loss, looked for every 100 steps.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from zeroskip.compression import Fit, samples
from zeroskip.compression.training import accuracy, scored, train_steps
from zeroskip.models import LeNet300
from zeroskip.pruning import connectivity, controls, tickets
from zeroskip.tools import write_whole

HERE: Final = Path(__file__).parent
TABLE: Final = HERE / "tickets.md"
RESULTS: Final = HERE / "pruning"
ROUNDS: Final = 15
SMALL, TINY = 7, 15  # rounds that leave 21 % and 3.5 % of the weights
WEIGHTS, OUTPUT = 266_200, 1_000  # of the network, of its output layer
SEEDS: Final = (0, 1, 2)
HELD_OUT: Final = 5_000 / 60_000
EVERY: Final = 100  # steps between two looks at the validation loss
OUTPUT_POWER: Final = math.log(0.9) / math.log(0.8)  # the output layer goes at half the rate
REINITIALISED: Final = 2  # new initialisations of a ticket


class Earliest:
    """Watches a training; keeps the accuracies of the step of the lowest validation loss."""

    def __init__(self, model: nn.Module, data: samples.TrainingData) -> None:
        self.model, self.data = model, data
        self.loss, self.step, self.test = math.inf, 0, 0.0

    def __call__(self, steps: Iterable[Any], total: int, what: str) -> Iterator[Any]:
        """As the progress bar of train_steps."""
        for step in steps:
            if step % EVERY == 0 and step:
                self.look(step)
            yield step
        self.look(total)

    def look(self, step: int) -> None:
        loss = 0.0
        for scores, labels in scored(self.model, self.data.validation):
            loss += float(functional.cross_entropy(scores, labels, reduction="sum"))
        if loss < self.loss:
            self.loss, self.step, self.test = loss, step, accuracy(self.model, self.data.test)


def early(seed: int, epochs: int, folder: str | None, out: Path) -> None:
    """One seed: all rounds and new initialisations at two densities, with early stopping."""
    torch.set_num_threads(1)
    data = _prepared(samples.load("mnist", folder, validation=HELD_OUT))
    fit = Fit(epochs, 1.2e-3, batch=60, decay="constant")
    record = Record(out / f"early-{seed}.json", seed=seed, steps=fit.steps(data.train))
    seen: list[Earliest] = []

    def train(model: nn.Module, start: int, stop: int, noise: int) -> None:
        seen.append(Earliest(model, data))
        order = 1000 * seed + noise
        train_steps(model, data.train, fit, order, start=start, stop=stop, progress=seen[-1])

    def figures(model: nn.Module) -> dict[str, float]:
        return {"step": seen[-1].step, "early": seen[-1].test, "end": accuracy(model, data.test)}

    left = [0.8**i for i in range(1, ROUNDS + 1)]
    found = tickets.tickets(
        network(seed),
        train,
        record.figures["steps"],
        left,
        scope="layerwise",
        powers={"fc3": OUTPUT_POWER},
    )
    for ticket in found:
        record.say(f"round {ticket.round}", {"density": ticket.density, **figures(ticket.trained)})
        for number in range(REINITIALISED if ticket.round in (SMALL, TINY) else 0):
            drawn = 100 + 10 * seed + number
            fresh = tickets.reinitialised(ticket, 0, lambda drawn=drawn: network(drawn))
            train(fresh, 0, record.figures["steps"], 100 + number)
            record.say(f"reinitialised {ticket.round}.{number}", figures(fresh))


class Record:
    """The figures of a run, written after each."""

    def __init__(self, path: Path, **figures: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.figures = path, figures

    def say(self, key: str, value: Any) -> None:
        self.figures[key] = value
        write_whole(self.path, (json.dumps(self.figures, indent=1) + "\n").encode())
        print(f"{key}: {value}", flush=True)


def run(seed: int, epochs: int, folder: str | None, out: Path) -> None:
    """One seed: all rounds, the controls at two densities, instability at three networks."""
    torch.set_num_threads(1)
    data = _prepared(samples.load("mnist", folder, validation=0))
    train, test = data.train, data.test
    fit = Fit(epochs, 1.2e-3, batch=60, decay="constant")
    steps = fit.steps(train)
    say = Record(out / f"tickets-{seed}.json", seed=seed, steps=steps).say

    def noisy(model: nn.Module, noise: int) -> None:
        train_steps(model, train, fit, 1000 * seed + noise)

    def rated(key: str, model: nn.Module, noise: int = 0) -> None:
        noisy(model, noise)
        say(key, accuracy(model, test))

    def error(model: nn.Module) -> float:
        return 1 - accuracy(model, test)

    def rewound(model: nn.Module, start: int, stop: int, number: int) -> None:
        train_steps(model, train, fit, 1000 * seed + number, start=start, stop=stop)

    left = [(0.8**i * WEIGHTS - OUTPUT) / (WEIGHTS - OUTPUT) for i in range(1, ROUNDS + 1)]
    found = tickets.tickets(network(seed), rewound, steps, left, exclude=["fc3"])
    for ticket in found:
        density = (ticket.density * (WEIGHTS - OUTPUT) + OUTPUT) / WEIGHTS
        say(f"round {ticket.round}", [density, accuracy(ticket.trained, test)])
        if ticket.round in (SMALL, TINY):
            shuffled = controls.shuffled(ticket.masks, seed)
            fresh = tickets.reinitialised(ticket, 0, lambda: network(100 + seed))
            rated(f"reinitialised {ticket.round}", fresh)
            rated(f"random mask {ticket.round}", tickets.with_masks(ticket, shuffled))
        if ticket.round in (0, TINY):
            networks = {"ticket" if ticket.round else "whole": ticket.start}
            if ticket.round:
                networks["random mask"] = tickets.with_masks(ticket, shuffled)
            for name, start in networks.items():
                segment = connectivity.instability(start, noisy, error, seeds=(101, 102))
                say(f"segment {name}", list(segment.errors))
                say(f"instability {name}", segment.instability)


def network(seed: int) -> nn.Module:
    """LeNet-300-100 as initialised by `seed`: Gaussian Glorot, biases 0."""
    torch.manual_seed(seed)
    model = LeNet300()
    for layer in (model.fc1, model.fc2, model.fc3):
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def _prepared(given: samples.TrainingData) -> samples.TrainingData:
    """As floats and flat, once for all steps."""

    def flat(part: samples.Samples) -> samples.Samples:
        values, labels = part.batch(slice(None))
        return samples.Samples(values.flatten(1), labels)

    parts = (flat(part) for part in (given.train, given.validation, given.test))
    return samples.TrainingData(given.name, *parts)


def cell(values: Iterable[float], scale: float = 100, form: str = ".2f") -> str:
    """Mean and spread, of fractions in percent."""
    parts = [scale * v for v in values]
    shown = [mean(parts), stdev(parts)] if len(parts) > 1 else parts
    return " ± ".join(format(v, form) for v in shown)


def table(found: list[Mapping[str, Any]]) -> str:
    """The part of `run`."""

    def column(key: str) -> list[float]:
        return [f[key][1] if isinstance(f[key], list) else f[key] for f in found]

    lines = [
        HEAD.format(seeds=len(found)),
        "| weights left % | ticket | re-initialised | random mask |",
        "|---|---|---|---|",
    ]
    for number in range(ROUNDS + 1):
        left = 100 * mean(f[f"round {number}"][0] for f in found)
        extra = [
            cell(column(key)) if all(key in f for f in found) else "-"
            for key in (f"reinitialised {number}", f"random mask {number}")
        ]
        lines.append(f"| {left:.1f} | {cell(column(f'round {number}'))} | {' | '.join(extra)} |")
    lines += ["", "| | whole | ticket | random mask | re-initialised |", "|---|---|---|---|---|"]
    keys = ("round 0", f"round {TINY}", f"random mask {TINY}", f"reinitialised {TINY}")
    lines.append("| measured | " + " | ".join(cell(column(key)) for key in keys) + " |")
    lines.append("| published (Frankle et al. 2020, table 2) | 98.3 | 98.2 | 96.7 | 97.5 |")
    lines += ["", "| network, from initialisation | instability, points |", "|---|---|"]
    for name in ("whole", "ticket", "random mask"):
        lines.append(f"| {name} | {cell(column(f'instability {name}'))} |")
    return "\n".join(lines) + "\n"


def early_table(found: list[Mapping[str, Any]]) -> str:
    """The part of `early`."""
    lines = [
        EARLY_HEAD.format(seeds=len(found), new=REINITIALISED, steps=found[0]["steps"]),
        "| weights left % | step of early stop | ticket then | ticket at the end "
        "| re-initialised: step | then | at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    for number in range(ROUNDS + 1):
        rows = [f[f"round {number}"] for f in found]
        again = [
            f[f"reinitialised {number}.{i}"]
            for f in found
            for i in range(REINITIALISED)
            if f"reinitialised {number}.{i}" in f
        ]
        cells = [f"{100 * mean(row['density'] for row in rows):.1f}"]
        for group in (rows, again):
            step, *others = [[row[key] for row in group] for key in ("step", "early", "end")]
            cells += [cell(step, 1, ",.0f"), *map(cell, others)] if group else ["-"] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


HEAD: Final = """\
# Lottery tickets and linear mode connectivity

## At the end of training

**Measured.** LeNet-300-100 on MNIST, test accuracy in percent after 24,000 steps (no early
stopping), mean ± sample standard deviation over {seeds} seeds. float32, all 10,000 test images.

    for seed in 0 1 2; do python benchmarks/tickets.py run --seed $seed; done
    python benchmarks/tickets.py table --write

Instability is the highest test error on the segment between two copies trained with different
orders of the data, above the mean of its ends (30 points; below 2 is stable, Frankle et al. 2020).
A random mask has the ticket's count in each layer; a re-initialised ticket has its mask.
"""


EARLY_HEAD: Final = """
## With early stopping

**Measured.** As Frankle and Carbin (2019) report it: test accuracy in percent at the step of the
lowest loss on 5,000 validation images, which are not trained on; layers pruned by a fifth, the
output layer by a tenth. Mean ± sample standard deviation over {seeds} seeds, {new} new
initialisations each. {steps:,} steps of training where the paper has 50,000.

    for seed in 0 1 2; do python benchmarks/tickets.py early --seed $seed; done
    python benchmarks/tickets.py table --write
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "early", "table"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="default: 24 of run, 16 of early")
    parser.add_argument("--data", help="folder of the data sets (default: $ZEROSKIP_DATA)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help=TABLE.name)
    a = parser.parse_args()
    if a.command == "run":
        return run(a.seed, a.epochs or 24, a.data, a.out)
    if a.command == "early":
        return early(a.seed, a.epochs or 16, a.data, a.out)
    text = table(_found(a.out, "tickets", "instability random mask"))
    text += early_table(_found(a.out, "early", f"reinitialised {TINY}.{REINITIALISED - 1}"))
    if a.write:
        write_whole(TABLE, text.encode())
    else:
        print(text)


def _found(folder: Path, name: str, last: str) -> list[Mapping[str, Any]]:
    """The results of the seeds that have run to the end, to the figure `last`."""
    paths = [folder / f"{name}-{seed}.json" for seed in SEEDS]
    found = [json.loads(path.read_text()) for path in paths if path.is_file()]
    ended = [f for f in found if last in f]
    if not ended:
        raise SystemExit(f"no whole results {name}-SEED.json in {folder}")
    return ended


if __name__ == "__main__":
    main()
