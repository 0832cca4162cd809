"""Lottery tickets and linear mode connectivity: LeNet-300-100 on MNIST.

    python benchmarks/tickets.py run --seed 0      # and 1, 2: a quarter of an hour each
    python benchmarks/tickets.py table --write

Iterative magnitude pruning as in Frankle et al. (2020) and their code: a fifth of the weights
left goes in each round, the smallest of the network, but for the output layer, which is not
pruned; rewound to initialisation (Glorot, biases 0). 24,000 steps of Adam at 1.2e-3, constant,
batches of 60.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

import torch
from torch import nn

from zeroskip.compression import Fit, samples
from zeroskip.compression.training import accuracy, train_steps
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


def run(seed: int, epochs: int, folder: str | None, out: Path) -> None:
    """One seed: all rounds, the controls at two densities, instability at three networks."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    data = samples.load("mnist", folder, validation=0)
    train, test = (_prepared(s) for s in (data.train, data.test))
    fit = Fit(epochs, 1.2e-3, batch=60, decay="constant")
    steps = fit.steps(train)
    path = out / f"tickets-{seed}.json"
    figures: dict[str, Any] = {"seed": seed, "steps": steps}

    def noisy(model: nn.Module, noise: int) -> None:
        train_steps(model, train, fit, 1000 * seed + noise)

    def say(key: str, value: Any) -> None:
        figures[key] = value
        write_whole(path, (json.dumps(figures, indent=1) + "\n").encode())
        print(f"{key}: {value}", flush=True)

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


def _prepared(given: samples.Samples) -> samples.Samples:
    """As floats and flat, once for all steps."""
    values, labels = given.batch(slice(None))
    return samples.Samples(values.flatten(1), labels)


def table(found: list[Mapping[str, Any]]) -> str:
    """The committed page."""

    def cell(values: list[float], digits: int = 2) -> str:
        scaled = [100 * v for v in values]
        return f"{mean(scaled):.{digits}f} ± {stdev(scaled) if len(scaled) > 1 else 0.0:.{digits}f}"

    def column(key: str) -> list[float]:
        return [f[key][1] if isinstance(f[key], list) else f[key] for f in found]

    lines = [
        HEAD.format(seeds=len(found)),
        "| weights left % | ticket | re-initialised | random mask |",
        "|---|---|---|---|",
    ]
    for number in range(ROUNDS + 1):
        if any(f"round {number}" not in f for f in found):
            continue
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


HEAD: Final = """\
# Lottery tickets and linear mode connectivity

**Measured.** LeNet-300-100 on MNIST, test accuracy in percent after 24,000 steps (no early
stopping), mean ± sample standard deviation over {seeds} seeds. float32, all 10,000 test images.

    for seed in 0 1 2; do python benchmarks/tickets.py run --seed $seed; done
    python benchmarks/tickets.py table --write

Instability is the highest test error on the segment between two copies trained with different
orders of the data, above the mean of its ends (30 points; below 2 is stable, Frankle et al. 2020).
A random mask has the ticket's count in each layer; a re-initialised ticket has its mask.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--data", help="folder of the data sets (default: $ZEROSKIP_DATA)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help=TABLE.name)
    a = parser.parse_args()
    if a.command == "run":
        run(a.seed, a.epochs, a.data, a.out)
        return
    paths = [a.out / f"tickets-{seed}.json" for seed in SEEDS]
    found = [json.loads(path.read_text()) for path in paths if path.is_file()]
    text = table(found)
    if a.write:
        write_whole(TABLE, text.encode())
    else:
        print(text)


if __name__ == "__main__":
    main()
