"""A network pruned by a method of each family, on an emulated Cortex-M4: its bits, its cycles."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import nn  # noqa: E402

import zeroskip  # noqa: E402
from zeroskip import boards, datasets, pruning  # noqa: E402
from zeroskip.compression.samples import Samples  # noqa: E402
from zeroskip.compression.training import Fit, train_steps  # noqa: E402
from zeroskip.emulation import emulate  # noqa: E402
from zeroskip.pruning import tickets  # noqa: E402
from zeroskip.runtime import Model  # noqa: E402

SPARSITIES = (0.5, 0.8, 0.95)
FIT = Fit(3, 1e-2, batch=64)


def samples() -> Samples:
    data = datasets.digits()
    return Samples(torch.tensor(data.scaled(data.train)), torch.tensor(data.train.labels))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10),
    )  # fmt: skip


def score_data(train: Samples) -> pruning.Data:
    return pruning.Data.of(*train.batch(slice(0, 64)), 32)


def before(name: str, train: Samples, sparsity: float) -> nn.Module:
    model = network()
    pruning.prune(model, sparsity, name, data=score_data(train), example=train.values[:1])
    train_steps(model, train, FIT, 0)
    return model


def after(name: str, train: Samples, sparsity: float) -> nn.Module:
    model = network()
    train_steps(model, train, FIT, 0)
    pruning.prune(model, sparsity, name, data=score_data(train))
    return model


def during(name: str, train: Samples, sparsity: float) -> nn.Module:
    model = network()
    pruner = pruning.attach(name, model, sparsity=sparsity, steps=FIT.steps(train) - 10)
    train_steps(model, train, FIT, 0, pruner=pruner)
    pruner.finish()
    return model


def ticket(name: str, train: Samples, sparsity: float) -> nn.Module:
    def fit(model: nn.Module, start: int, stop: int, number: int) -> None:
        train_steps(model, train, FIT, number, start=start, stop=stop)

    *_, last = tickets.tickets(network(), fit, FIT.steps(train), [1 - sparsity], rewind=name)
    return last.trained


FAMILIES: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "at initialisation, by data": (before, "snip"),
    "at initialisation, without data": (before, "synflow"),
    "trained, first order": (after, "taylor"),
    "trained, second order": (after, "obs-fisher"),
    "lottery ticket": (ticket, "weights"),
    "while training": (during, "set"),
}


@pytest.mark.slow
@pytest.mark.tool("arm-none-eabi-gcc", "unicorn", "capstone")
@pytest.mark.parametrize("family", FAMILIES)
def test_it_runs_bit_exactly_and_faster_the_sparser(family: str) -> None:
    make, name = FAMILIES[family]
    train, board = samples(), boards.load("nucleo-l4r5zi")
    assert board.core.name == "cortex-m4"
    inputs = train.take(2)
    cycles: list[int] = []
    for sparsity in SPARSITIES:
        model = make(name, train, sparsity).eval()
        weights = sum(t.value.numel() for t in pruning.targets(model).values())
        assert sum(int((~m).sum()) for m in pruning.masks_of(model).values()) == int(
            sparsity * weights + 0.5
        )
        blob = zeroskip.convert(copy.deepcopy(model), calibration=train.take(100))
        result: Any = emulate(blob, board, [inputs], emulator="unicorn", compiler="gcc")
        assert result.matches_host
        host = Model(blob).run(*Model(blob).prepare(inputs))
        assert np.array_equal(result.outputs[0], host)
        cycles.append(result.total_cycles)
    assert cycles == sorted(cycles, reverse=True) and cycles[2] < 0.6 * cycles[0]
