"""The pipeline end to end on a small task, and what stops it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("kmeans1d")

from torch import nn  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.compression import (  # noqa: E402
    Fit,
    Goal,
    Recipe,
    checkpoint,
    compress,
    samples,
    source,
)
from zeroskip.compression.pipeline import CHECKPOINT, correct  # noqa: E402
from zeroskip.compression.source import Source  # noqa: E402
from zeroskip.errors import InputError, ModelError  # noqa: E402

RECIPE = Recipe(
    train=Fit(6, 1e-2, batch=20), prune=Fit(4, 1e-2, batch=20), share=Fit(2, 1e-3, batch=20),
    centroids=8, calibration=50,
)  # fmt: skip


class Killed(BaseException):
    pass


def run(task: Path, goal: Goal, recipe: Recipe = RECIPE, spec: str = "net.py:make", **more: Any):
    work = task / "work"
    work.mkdir(exist_ok=True)
    model = source.load(str(task / spec))
    return compress(model, samples.load(task / "data.npz"), goal, recipe, work, **more)


def test_a_sparsity_is_reached_shared_and_as_accurate_in_c_as_reported(task: Path) -> None:
    lines: list[str] = []
    result = run(task, Goal(sparsity=0.8), say=lines.append)
    assert [line.split(":")[0] for line in lines] == ["train", "prune to 80.00 %", "share"]
    assert result.weights == 72 + 72 * 24 + 96 and result.nonzero == round(0.2 * result.weights)
    for target in pruning.targets(result.model).values():
        assert len(torch.unique(target.value[target.value != 0])) <= 8
    test = samples.load(task / "data.npz").test
    assert correct(result.blob, test) == result.accuracy > 0.9
    assert result.ratio == 4 * (result.weights + 8 + 24 + 4) / len(result.blob)


def test_sparsities_by_layer_are_those_asked_for(task: Path) -> None:
    result = run(task, Goal(sparsity={"0": 0.25, "4": 0.9, "6": 0.5}))
    left = [int((t.value != 0).sum()) for t in pruning.targets(result.model).values()]
    assert left == [54, 173, 48]


def test_an_excluded_layer_is_left_alone(task: Path) -> None:
    recipe = Recipe(**{**vars(RECIPE), "exclude": ("6",)})
    result = run(task, Goal(sparsity=0.9), recipe)
    assert (pruning.targets(result.model)["6.weight"].value != 0).all()
    assert list(result.layer_sizes) == ["0", "4"]


def test_bits_are_chosen_by_layer_under_a_budget(task: Path) -> None:
    recipe = Recipe(**{**vars(RECIPE), "centroids": "auto", "bits_loss": 0.05})
    result = run(task, Goal(sparsity=0.8), recipe)
    assert result.accuracy > 0.85
    counts = [len(torch.unique(t.value)) - 1 for t in pruning.targets(result.model).values()]
    assert min(counts) <= 4  # 240 samples that are easy to tell apart need few bits


@pytest.mark.parametrize("goal", [Goal(ratio=12), Goal(loss=0.05)], ids=["ratio", "loss"])
def test_a_search_ends_within_its_goal(task: Path, goal: Goal) -> None:
    result = run(task, goal)
    if goal.ratio is not None:
        assert result.ratio >= goal.ratio
    else:
        first, last = result.stages[0], result.stages[-1]
        assert first.accuracy - last.accuracy <= 0.05 and last.sparsity >= 0.6


@pytest.mark.parametrize("step", [3, 8, 11])
@pytest.mark.parametrize("revive", [False, True])
def test_a_killed_run_goes_on_to_the_same_bytes(task: Path, step: int, revive: bool) -> None:
    recipe = Recipe(**{**vars(RECIPE), "revive": revive})
    whole = run(task, Goal(sparsity=0.8), recipe)
    os.remove(task / "work" / CHECKPOINT)
    epochs = 0

    def progress(steps: Any, total: int, what: str) -> Any:
        nonlocal epochs
        epochs += "C runtime" not in what
        for i, item in enumerate(steps):
            if epochs == step and i == 3:
                raise Killed  # in the middle of an epoch
            yield item

    with pytest.raises(Killed):
        run(task, Goal(sparsity=0.8), recipe, progress=progress)
    before = checkpoint.load(task / "work" / CHECKPOINT)
    assert before is not None
    resumed = run(task, Goal(sparsity=0.8), recipe)
    assert resumed.blob == whole.blob and resumed.stages == whole.stages


def test_a_checkpoint_of_other_options_or_no_checkpoint_is_refused(task: Path) -> None:
    run(task, Goal(sparsity=0.5))
    with pytest.raises(InputError, match="another model, data or options"):
        run(task, Goal(sparsity=0.6))
    (task / "work" / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="not a checkpoint"):
        run(task, Goal(sparsity=0.5))


def test_a_truncated_checkpoint_is_refused(task: Path) -> None:
    run(task, Goal(sparsity=0.5))
    path = task / "work" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="remove it to start anew"):
        run(task, Goal(sparsity=0.5))


def broken(kind: str) -> Source:
    def make() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        with torch.no_grad():
            if kind == "nan":
                model[1].weight[0, 0] = float("nan")
            if kind == "zero":
                model[1].weight.zero_()
        return model

    return Source("broken", make)


def test_nan_weights_are_named(task: Path) -> None:
    data = samples.load(task / "data.npz")
    with pytest.raises(ModelError, match=r"weights of '1.weight' hold NaN"):
        compress(broken("nan"), data, Goal(sparsity=0.5), RECIPE, task)


def test_a_layer_of_zeros_stays_one_and_converts(task: Path) -> None:
    data = samples.load(task / "data.npz")
    recipe = Recipe(**{**vars(RECIPE), "train": Fit(0, 1e-3), "prune": Fit(0, 1e-3)})
    result = compress(broken("zero"), data, Goal(sparsity=0.5), recipe, task)
    assert result.nonzero == 0 and len(result.blob) < 400


def test_a_layer_with_one_weight_converts(task: Path) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Conv2d(1, 1, 1)
            self.fc = nn.Linear(64, 4)

        def forward(self, x: Any) -> Any:
            return self.fc(torch.flatten(self.scale(x), 1))

    data = samples.load(task / "data.npz")
    result = compress(Source("one", One), data, Goal(sparsity=0.5), RECIPE, task)
    assert correct(result.blob, data.test) == result.accuracy


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(50, 4)), "does not take the samples"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), "labels up to 3, the model only 3"),
        (nn.Conv2d(1, 4, 3), "one tensor of class scores"),
    ],
)
def test_data_that_do_not_fit_the_model(task: Path, module: Any, message: str) -> None:
    data = samples.load(task / "data.npz")
    with pytest.raises(InputError, match=message):
        compress(Source("x", lambda: module), data, Goal(sparsity=0.5), RECIPE, task)


def test_a_loss_that_runs_away_is_told(task: Path) -> None:
    recipe = Recipe(**{**vars(RECIPE), "train": Fit(3, 1e30, "sgd", 20)})
    with pytest.raises(InputError, match=r"the loss is (nan|inf) after epoch"):
        run(task, Goal(sparsity=0.5), recipe)


def test_an_exported_program_is_compressed_like_its_module(task: Path) -> None:
    torch.manual_seed(0)
    module = source.load(str(task / "net.py:make")).make().eval()
    program = torch.export.export(module, (torch.zeros(1, 1, 8, 8),))
    torch.export.save(program, task / "net.pt2")
    result = run(task, Goal(sparsity=0.7), spec="net.pt2")
    assert result.layer_sizes == {"0": 72, "4": 1728, "6": 96}
    assert result.nonzero == round(0.3 * 1896)
    assert result.accuracy > 0.9
    reached = correct(result.convert(names=True), samples.load(task / "data.npz").test)
    assert reached == result.accuracy


def test_weights_are_the_same_under_the_program_and_its_module(task: Path) -> None:
    module = source.load(str(task / "net.py:make")).make().eval()
    program = torch.export.export(module, (torch.zeros(1, 1, 8, 8),))
    torch.export.save(program, task / "net.pt2")
    loaded = source.load(str(task / "net.pt2")).make()
    x = torch.from_numpy(np.random.default_rng(0).random((5, 1, 8, 8), np.float32))
    assert torch.allclose(loaded(x), module(x), atol=1e-6)
