"""One stretch of training: optimizer, learning rate, augmentation, pruner, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from zeroskip.compression.samples import AUGMENTATIONS, Samples, TrainingData
from zeroskip.errors import InputError
from zeroskip.pruning.base import Pruner

OPTIMIZERS: Final = ("adam", "sgd")
DECAYS: Final = ("cosine", "constant", "steps")
_TEMPERATURE: Final = 4.0
_EVALUATION_BATCH: Final = 500

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
State = dict[str, Any]


def quiet(steps: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """The progress bar that shows nothing."""
    return steps


@dataclass(frozen=True)
class Fit:
    """How to train.

    epochs: passes over the training samples.
    rate: the learning rate at the start, or after `warm_up` (a fraction of all steps, over which
        it rises from 0).
    decay: how the learning rate goes on: to 0 along a "cosine", "constant", or in "steps", to a
        tenth at a half and again at three quarters of all steps.
    optimizer: "adam", or "sgd" with Nesterov momentum 0.9.
    weight_decay: of weights with two axes or more; biases, batch-norm and centroids have none.
    augment: see samples.AUGMENTATIONS.
    distill: the share of the loss that compares with the unpruned network's answers (Hinton,
        Vinyals and Dean 2015, temperature 4) instead of with labels.
    bfloat16: matrix products and convolutions in bfloat16 where the processor is fast at them
        (see has_bfloat16), in float32 elsewhere.
    """

    epochs: int
    rate: float
    optimizer: str = "adam"
    batch: int = 100
    weight_decay: float = 0.0
    warm_up: float = 0.0
    augment: str = "none"
    distill: float = 0.0
    decay: str = "cosine"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise InputError(f"{self.epochs} epochs must be 0 or more")
        if self.batch < 1:
            raise InputError(f"batch {self.batch} must be at least 1")
        if not self.rate > 0:
            raise InputError(f"learning rate {self.rate:g} must be above 0")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer '{self.optimizer}' must be one of {', '.join(OPTIMIZERS)}")
        if self.augment not in AUGMENTATIONS:
            raise InputError(f"augment '{self.augment}' must be one of {', '.join(AUGMENTATIONS)}")
        if self.decay not in DECAYS:
            raise InputError(f"decay '{self.decay}' must be one of {', '.join(DECAYS)}")
        if not 0 <= self.distill <= 1 or not 0 <= self.warm_up < 1:
            raise InputError(
                f"distill {self.distill:g} and warm_up {self.warm_up:g} must be in 0..1"
            )

    def steps(self, samples: Samples) -> int:
        """Optimizer steps in all."""
        return self.epochs * self.steps_per_epoch(samples)

    def steps_per_epoch(self, samples: Samples) -> int:
        return -(-len(samples) // self.batch)


def has_bfloat16() -> bool:
    """Whether oneDNN has code for bfloat16 here (AVX-512, AMX, Arm's extension); elsewhere
    torch's own loops are far slower than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Training:
    """A model in training; `epoch` counts what is done. Random numbers come from torch's global
    generator, whose state is part of `state()`, so that a run that goes on from a checkpoint
    gives what an uninterrupted one gives."""

    def __init__(
        self,
        model: nn.Module,
        samples: Samples,
        fit: Fit,
        *,
        pruner: Pruner | None = None,
        own_rate: float | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        """`own_rate` is the learning rate of the pruner's own parameters (default: fit.rate)."""
        self.model, self.samples, self.fit, self.pruner = model, samples, fit, pruner
        self.teacher = teacher if fit.distill else None
        self.epoch = 0
        self._bfloat16 = fit.bfloat16 and has_bfloat16()
        self._layout = torch.contiguous_format
        if samples.values.ndim == 4:
            self._layout = (
                torch.channels_last
            )  # faster on x86-64: by a quarter for ResNet-8, twice for LeNet-5
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = _optimizer(model, fit, pruner, own_rate)
        total = max(1, fit.steps(samples))
        rise = round(fit.warm_up * total)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            passed = min(1.0, (step - rise) / max(1, total - rise))
            return _decayed(fit.decay, passed)

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)

    def run_epoch(self, progress: Progress = quiet, what: str = "train") -> float:
        """One pass over the samples; the mean loss. Raises InputError if it is not finite."""
        self.model.train()
        steps = self.fit.steps_per_epoch(self.samples)
        total = 0.0
        batches = self.samples.shuffled(self.fit.batch, self.fit.augment)
        for values, labels in progress(batches, steps, what):
            total += self._step(values, labels)
        self.epoch += 1
        mean = total / steps
        if not mean < float("inf"):
            raise InputError(
                f"{what}: the loss is {mean} after epoch {self.epoch}; try a learning rate below "
                f"{self.fit.rate:g}"
            )
        return mean

    def run_steps(self, start: int, stop: int, progress: Progress = quiet) -> None:
        """From optimizer step `start` of the whole training to step `stop`, with the learning
        rates of these steps. Raises InputError if the loss is not finite at the end."""
        self.model.train()
        self._schedule.last_epoch = start
        for group, factor in zip(
            self._optimizer.param_groups, self._schedule.lr_lambdas, strict=True
        ):
            group["lr"] = group["initial_lr"] * factor(start)
        batches, loss = self._endless(), 0.0
        for _ in progress(range(start, stop), stop - start, "train"):
            loss = self._step(*next(batches))
        if not loss < float("inf"):
            raise InputError(
                f"the loss is {loss} at step {stop}; try a learning rate below {self.fit.rate:g}"
            )

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one pass over the samples after the other."""
        while True:
            yield from self.samples.shuffled(self.fit.batch, self.fit.augment)

    def _step(self, values: Tensor, labels: Tensor) -> float:
        """One step of the optimizer; the loss before it, without the pruner's penalty."""
        values = values.contiguous(memory_format=self._layout)
        loss = self._loss(values, labels)
        value = float(loss.detach())
        if self.pruner is not None:
            loss = loss + self.pruner.penalty()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()
        if self.pruner is not None:
            self.pruner.step()
        return value

    def state(self) -> State:
        """What a checkpoint needs; see load_state."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": {"last_epoch": self._schedule.last_epoch},
            "pruner": self.pruner.state_dict() if self.pruner is not None else None,
            "epoch": self.epoch,
            "random": torch.get_rng_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, of a training that was made the same way."""
        self.model.load_state_dict(state["model"])
        if self.pruner is not None:
            self.pruner.load_state_dict(state["pruner"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.last_epoch = int(state["schedule"]["last_epoch"])
        self.epoch = int(state["epoch"])
        torch.set_rng_state(state["random"])

    def _loss(self, values: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            scores = self.model(values)
        scores = scores.float()
        loss = functional.cross_entropy(scores, labels)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            target = functional.log_softmax(self.teacher(values) / _TEMPERATURE, 1)
        student = functional.log_softmax(scores / _TEMPERATURE, 1)
        difference = functional.kl_div(student, target, reduction="batchmean", log_target=True)
        share = self.fit.distill
        return (1 - share) * loss + share * _TEMPERATURE**2 * difference


def check_fit(model: nn.Module, data: TrainingData) -> None:
    """Raises InputError where the model does not take the samples or lacks classes of theirs."""
    values, _ = data.train.batch(slice(0, 2))
    mode = model.training
    try:
        with torch.no_grad():
            scores = model.eval()(values)
    except Exception as error:  # the model's own code
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the model does not take the samples {list(data.shape)} of '{data.name}': {line}"
        ) from error
    finally:
        model.train(mode)
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2:
        raise InputError("the model must give one tensor of class scores (N, classes)")
    top = max(int(s.labels.max()) for s in (data.train, data.validation, data.test))
    if top >= scores.shape[1]:
        raise InputError(
            f"'{data.name}' has labels up to {top}, the model only {scores.shape[1]} classes"
        )


def train_steps(
    model: nn.Module,
    samples: Samples,
    fit: Fit,
    seed: int,
    *,
    start: int = 0,
    stop: int | None = None,
    pruner: Pruner | None = None,
    progress: Progress = quiet,
) -> None:
    """Train `model` in place from step `start` to `stop` (default: the last of `fit`).

    `seed` draws the order of the samples and the augmentation; torch's global generator is left
    as it was. The optimizer starts anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training = Training(model, samples, fit, pruner=pruner)
        training.run_steps(start, fit.steps(samples) if stop is None else stop, progress)
    model.eval()


def _decayed(how: str, passed: float) -> float:
    """The factor of the learning rate after the fraction `passed` of the steps; 0..1."""
    match how:
        case "constant":
            return 1.0
        case "steps":
            return 0.1 ** ((passed >= 0.5) + (passed >= 0.75))
    return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * passed))))


def accuracy(model: nn.Module, samples: Samples) -> float:
    """The fraction of samples whose largest score is at the label; 0..1."""
    hits = sum(int((scores.argmax(1) == labels).sum()) for scores, labels in scored(model, samples))
    return hits / len(samples)


def scored(model: nn.Module, samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """(scores (n, classes), labels (n,)) of some samples after the other, in evaluation mode."""
    mode = model.training
    model.eval()
    for start in range(0, len(samples), _EVALUATION_BATCH):
        values, labels = samples.batch(slice(start, start + _EVALUATION_BATCH))
        with torch.no_grad():
            scores: Tensor = model(values)
        yield scores, labels
    model.train(mode)


def _optimizer(
    model: nn.Module, fit: Fit, pruner: Pruner | None, own_rate: float | None
) -> torch.optim.Optimizer:
    own = pruner.parameters() if pruner is not None else []
    rest = [p for p in model.parameters() if p.requires_grad and all(p is not q for q in own)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": fit.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1]},
        {"params": own, "lr": own_rate or fit.rate},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise InputError(f"{type(model).__name__} has no parameters to train")
    if fit.optimizer == "sgd":
        return torch.optim.SGD(groups, fit.rate, momentum=0.9, nesterov=True)
    return torch.optim.Adam(groups, fit.rate, fused=True)
