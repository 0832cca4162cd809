"""Prune, retrain, share weights, train centroids, encode: a run that can be killed and resumed.

Han, Mao and Dally, "Deep Compression" (ICLR 2016). A run is a sequence of stages; which comes
next follows from the results of those before (`plan.py`), so that a run resumed from its
checkpoint takes the same decisions and gives the same bytes as one that was never stopped.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from zeroskip import conversion, pruning, sharing
from zeroskip.compression import checkpoint
from zeroskip.compression.plan import Prune, Result, Share, Stage, Train, decide
from zeroskip.compression.recipe import AUTO, Goal, Recipe
from zeroskip.compression.samples import Samples, TrainingData
from zeroskip.compression.source import ExportedModule, Source
from zeroskip.compression.training import (
    Fit,
    Progress,
    State,
    Training,
    accuracy,
    check_fit,
    quiet,
)
from zeroskip.converters.ir import Array
from zeroskip.errors import InputError, ModelError
from zeroskip.pruning.schedules import Cubic
from zeroskip.runtime import Model
from zeroskip.sharing.clustering import MAX_CENTROIDS

CHECKPOINT: Final = "checkpoint.pt"
_FLOAT_BYTES: Final = 4
_CHUNK: Final = 250


@dataclass(frozen=True)
class Compressed:
    """What a run leaves.

    `accuracy` is that of the C runtime on the test samples, `float_accuracy` that of the model
    before pruning in torch, both 0..1; `float_bytes` all parameters in float32; `layer_sizes`
    counts the weights by layer; `stages` is what was done, with accuracies on the validation
    samples.
    """

    blob: bytes
    model: nn.Module
    calibration: Array
    accuracy: float
    float_accuracy: float
    float_bytes: int
    layer_sizes: dict[str, int]
    nonzero: int
    stages: tuple[Result, ...]

    @property
    def ratio(self) -> float:
        return self.float_bytes / len(self.blob)

    @property
    def weights(self) -> int:
        return sum(self.layer_sizes.values())

    def convert(self, names: bool) -> bytes:
        """The container, with or without the names of layers; `blob` is without."""
        return _convert(self.model, self.calibration, names)


def compress(
    source: Source,
    data: TrainingData,
    goal: Goal,
    recipe: Recipe,
    folder: Path,
    *,
    start: State | None = None,
    teacher: State | None = None,
    progress: Progress = quiet,
    say: Callable[[str], None] = lambda line: None,
) -> Compressed:
    """Run the pipeline in `folder`, made if need be, whose checkpoint is renewed every epoch.

    `start` is a state_dict of the model to begin from (masks in it hold), `teacher` that of the
    unpruned model where `start` is pruned already. The same call goes on from the checkpoint.
    `say` gets a line after each stage.

    Raises InputError for a model, data or checkpoint that do not fit, GoalError where the goal
    is out of reach, with the closest that was reached.
    """
    run = _Run(source, data, goal, recipe, folder, start, teacher, progress, say)
    while (stage := decide(run.results, goal, recipe)) is not None:
        run.do(stage)
    return run.finish()


class _Run:
    def __init__(
        self,
        source: Source,
        data: TrainingData,
        goal: Goal,
        recipe: Recipe,
        folder: Path,
        start: State | None,
        teacher: State | None,
        progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        self._source, self._data, self._recipe = source, data, recipe
        self._progress, self._say = progress, say
        self._path = folder / CHECKPOINT
        self._key = _key(source, data, goal, recipe, start)
        torch.manual_seed(recipe.seed)
        model = source.make()
        check_fit(model, data)
        self._select = source.select
        targets = pruning.targets(model, self._select, recipe.exclude)
        if isinstance(goal.sparsity, Mapping):
            _: dict[str, float] = pruning.resolve(dict(goal.sparsity), list(targets), "sparsity")
        for name, target in targets.items():
            if not bool(torch.isfinite(target.value).all()):
                raise ModelError(f"the weights of '{name}' hold NaN or infinity")
        self._float_bytes = _FLOAT_BYTES * sum(p.numel() for p in model.parameters())
        first = model.state_dict() if start is None else start
        saved = checkpoint.load(self._path)
        if saved is None:
            base = first if teacher is None else teacher
            saved = {"key": self._key, "results": [], "base": base, "kept": first, "now": None}
        elif saved.get("key") != self._key:
            raise InputError(
                f"{self._path} is of a run with another model, data or options; remove it, or "
                "choose another folder"
            )
        self._state = saved

    @property
    def results(self) -> tuple[Result, ...]:
        return tuple(Result(**entry) for entry in self._state["results"])

    def do(self, stage: Stage) -> None:
        """Train the stage to its end, judge it, and keep its model if it is worth keeping."""
        torch.manual_seed(self._recipe.seed + len(self.results))
        model, pruner, fit = self._begin(stage)
        training = Training(model, self._data.train, fit, pruner=pruner, teacher=self._teacher(fit))
        if self._state["now"] is not None:
            checkpoint.resume(training, self._state["now"], self._path)
        while training.epoch < fit.epochs:
            training.run_epoch(self._progress, f"{stage.name} {training.epoch + 1}/{fit.epochs}")
            self._state["now"] = training.state()
            self._save()
        if pruner is not None:
            pruner.finish()
        result = self._judge(stage, model.eval())
        self._say(result.line())
        self._state["results"].append(dataclasses.asdict(result))
        if isinstance(stage, Train) and fit.epochs:
            self._state["base"] = model.state_dict()
        if result.kept:
            self._state["kept" if not isinstance(stage, Share) else "shared"] = model.state_dict()
        self._state["now"] = None
        self._save()

    def finish(self) -> Compressed:
        model = self._model("shared")
        targets = self._targets(model)
        prefix = "program." if isinstance(model, ExportedModule) else ""
        sizes = {
            name.removeprefix(prefix).rpartition(".")[0]: target.value.numel()
            for name, target in targets.items()
        }
        blob = self._convert(model)
        return Compressed(
            blob=blob,
            model=model,
            calibration=self._data.train.take(self._recipe.calibration),
            accuracy=correct(blob, self._data.test, self._progress, "test"),
            float_accuracy=accuracy(self._model("base"), self._data.test),
            float_bytes=self._float_bytes,
            layer_sizes=sizes,
            nonzero=sum(int((t.value != 0).sum()) for t in targets.values()),
            stages=self.results,
        )

    def _begin(self, stage: Stage) -> tuple[nn.Module, pruning.Pruner | None, Fit]:
        recipe = self._recipe
        match stage:
            case Train():
                return self._model("kept"), None, recipe.train
            case Prune():
                model = self._model("kept")
                return model, self._pruner(model, stage), recipe.prune
            case Share():
                model = self._model("kept")
                sharing.share(
                    model, self._centroids(model, stage), init=recipe.init,
                    select=self._select, exclude=recipe.exclude, seed=recipe.seed,
                )  # fmt: skip
                return model, None, recipe.share

    def _pruner(self, model: nn.Module, stage: Prune) -> pruning.Pruner:
        recipe = self._recipe
        end = max(1, round(recipe.ramp * recipe.prune.steps(self._data.train)))
        layers = stage.sparsity if isinstance(stage.sparsity, Mapping) else None
        if isinstance(stage.sparsity, Mapping):
            final, initial = max(stage.sparsity.values()), 0.0
        else:
            final = stage.sparsity
            initial = min(final, pruning.sparsity(model, self._select, recipe.exclude))
        return pruning.attach(
            recipe.method,
            model,
            select=self._select,
            exclude=recipe.exclude,
            seed=recipe.seed,
            schedule=Cubic(final, end, every=max(1, end // 100), initial=initial),
            scope=recipe.scope if layers is None else "layerwise",
            revive=recipe.revive,
            layers=layers,
        )

    def _centroids(self, model: nn.Module, stage: Share) -> int | dict[str, int]:
        recipe = self._recipe
        if stage.centroids != AUTO:
            assert not isinstance(stage.centroids, str)
            names = list(self._targets(model))
            return pruning.resolve(stage.centroids, names, "centroids")

        def evaluate(trial: nn.Module) -> float:
            return accuracy(trial, self._data.validation)

        plan = sharing.choose_bits(
            model, evaluate, recipe.bits_loss, init=recipe.init, select=self._select,
            exclude=recipe.exclude, seed=recipe.seed,
        )  # fmt: skip
        return plan.centroids

    def _judge(self, stage: Stage, model: nn.Module) -> Result:
        """Bytes and accuracy; of a pruned model as it would be after sharing."""
        if isinstance(stage, Train):
            found = accuracy(model, self._data.validation)
            return Result(stage.name, 0.0, self._float_bytes, found, True)
        trial = model
        if isinstance(stage, Prune):
            trial = copy.deepcopy(model)
            recipe = self._recipe
            count = recipe.centroids if not isinstance(recipe.centroids, str) else MAX_CENTROIDS
            sharing.share(
                trial, count, init=recipe.init, select=self._select, exclude=recipe.exclude
            )
        blob = self._convert(trial)
        found = correct(blob, self._data.validation, self._progress, "validation")
        sparsity = pruning.sparsity(model, self._select, self._recipe.exclude)
        result = Result(stage.name, sparsity, len(blob), found, True)
        return dataclasses.replace(result, kept=stage.worth(result, self.results))

    def _convert(self, model: nn.Module) -> bytes:
        return _convert(model, self._data.train.take(self._recipe.calibration), names=False)

    def _teacher(self, fit: Fit) -> nn.Module | None:
        return self._model("base").eval() if fit.distill else None

    def _model(self, which: str) -> nn.Module:
        with _kept_random_state():
            model = self._source.make()
        sharing.load_shared(model, self._state[which])
        return model.eval()

    def _targets(self, model: nn.Module) -> dict[str, pruning.Target]:
        return pruning.targets(model, self._select, self._recipe.exclude)

    def _save(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        checkpoint.save(self._path, self._state)


def correct(
    blob: bytes, samples: Samples, progress: Progress = quiet, what: str = "samples"
) -> float:
    """The fraction of samples that the C runtime, running the container, gets right; 0..1."""
    runtime = Model(blob)
    starts = range(0, len(samples), _CHUNK)
    hits = 0
    for start in progress(starts, len(starts), f"{what}, C runtime"):
        values, labels = samples.batch(slice(start, start + _CHUNK))
        scores = runtime.run(values.numpy())
        assert isinstance(scores, np.ndarray)
        hits += int((scores.reshape(len(labels), -1).argmax(1) == labels.numpy()).sum())
    return hits / len(samples)


def _convert(model: nn.Module, calibration: Array, names: bool) -> bytes:
    whole = model.exported() if isinstance(model, ExportedModule) else model
    return conversion.convert(whole, calibration=calibration, prefer="size", names=names)


@contextmanager
def _kept_random_state() -> Iterator[None]:
    """Making a model draws random numbers; a resumed run must not draw more than another."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _key(
    source: Source, data: TrainingData, goal: Goal, recipe: Recipe, start: State | None
) -> str:
    """Names a run: equal for the same model name, data, goal and hyper-parameters."""
    plain: dict[str, Any] = {
        "model": source.name,
        "data": [data.name, len(data.train), len(data.validation), list(data.shape)],
        "goal": dataclasses.asdict(goal),
        "recipe": dataclasses.asdict(recipe),
        "start": None if start is None else len(start),
    }
    return json.dumps(plain, sort_keys=True, default=str)
