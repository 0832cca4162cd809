"""Dynamic network surgery: prune on the fly, and splice back what proves important.

Guo, Yao and Chen, "Dynamic network surgery for efficient DNNs" (NIPS 2016). Per tensor, with mu
and sigma the mean and standard deviation of |w| when the surgery begins: a weight is masked when
|w| <= 0.9 (mu + c sigma), comes back when |w| > 1.1 (mu + c sigma), and keeps its state in
between. The gradient updates all weights, masked ones included. Masks are renewed at a step
with probability (1 + gamma * step)^-power, until `stop`.

The paper tunes c, and takes the sparsity that comes of it. With a `sparsity` instead, the
threshold of a tensor is at each renewal the quantile of its magnitudes, and at `stop` the masks
become exact: the smallest |w| / threshold of all tensors go.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from zeroskip.errors import InputError
from zeroskip.pruning import scopes
from zeroskip.pruning.base import Context, Method
from zeroskip.pruning.masks import Mask, put_mask
from zeroskip.pruning.targets import Target, resolve


@dataclass(frozen=True)
class SurgeryOptions:
    """Hyper-parameters.

    c: the threshold in standard deviations above the mean magnitude; one for all, or by name.
    sparsity: 0..1, in place of c.
    stop: the step after which masks stay as they are.
    gamma, power: how the probability of an update falls.
    low, high: factors of the threshold for pruning and for splicing.
    """

    stop: int
    c: float | Mapping[str, float] = 1.0
    gamma: float = 1e-4
    power: float = 1.0
    low: float = 0.9
    high: float = 1.1
    sparsity: float | None = None

    @classmethod
    def for_run(cls, sparsity: float, steps: int, **options: Any) -> Self:
        """Options for masks that are final, with that many zeros, after `steps` steps."""
        return cls(**{"sparsity": sparsity, "stop": steps} | options)

    def __post_init__(self) -> None:
        if self.stop < 1:
            raise InputError(f"surgery: stop {self.stop} must be at least 1")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise InputError(f"sparsity {self.sparsity:g} must be at least 0 and less than 1")
        if not 0 <= self.low <= self.high:
            raise InputError(f"surgery: low {self.low:g} must be in 0..high ({self.high:g})")
        if self.gamma < 0 or self.power < 0:
            raise InputError(
                f"surgery: gamma {self.gamma:g} and power {self.power:g} must not be negative"
            )


@dataclass
class Surgeon:
    """Dynamic network surgery at work; a Pruner. `revived` counts weights that came back."""

    targets: Mapping[str, Target]
    options: SurgeryOptions
    context: Context
    revived: int = field(default=0, init=False)
    _step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        factors = resolve(self.options.c, list(self.targets), "surgery: c")
        self._random = random.Random(self.context.seed)
        self._thresholds: dict[str, float] = {}
        self._masks: dict[str, Mask] = {}
        for name, target in self.targets.items():
            size = target.value.abs().double()
            if not bool(torch.isfinite(size).all()):
                raise InputError(f"the weights of '{name}' are not finite")
            mean, deviation = size.mean(), size.std(correction=0)
            self._thresholds[name] = max(0.0, float(mean + factors[name] * deviation))
            whole = torch.ones_like(target.value, dtype=torch.bool)
            self._masks[name] = put_mask(target, whole, dense_gradient=True)
        self._operate()

    def step(self) -> None:
        self._step += 1
        if self._step > self.options.stop:
            return
        if self._step == self.options.stop and self.options.sparsity is not None:
            self._settle(self.options.sparsity)
            return
        probability = (1 + self.options.gamma * self._step) ** -self.options.power
        if self._random.random() < probability:
            self._operate()

    def penalty(self) -> Tensor:
        return torch.zeros(())

    def parameters(self) -> list[nn.Parameter]:
        return []

    def finish(self) -> None:
        if self._step < self.options.stop and self.options.sparsity is not None:
            self._settle(self.options.sparsity)
        for mask in self._masks.values():
            mask.dense_gradient = False

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "revived": self.revived,
            "thresholds": dict(self._thresholds),
            "random": self._random.getstate(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self.revived = int(state["step"]), int(state["revived"])
        self._thresholds = {name: float(state["thresholds"][name]) for name in self.targets}
        version, words, gauss = state["random"]
        self._random.setstate((version, tuple(words), gauss))

    def _operate(self) -> None:
        with torch.no_grad():
            for name, target in self.targets.items():
                size, mask = target.original.abs(), self._masks[name].mask
                if self.options.sparsity is not None:
                    self._thresholds[name] = _quantile(size, self.options.sparsity)
                threshold = self._thresholds[name]
                back = ~mask & (size > self.options.high * threshold)
                mask &= size > self.options.low * threshold
                mask |= back
                self.revived += int(back.sum())

    def _settle(self, sparsity: float) -> None:
        """Masks with exactly the zeros that were asked for, which hold from now on."""
        scores = {}
        for name, target in self.targets.items():
            size = target.original.detach().abs()
            scores[name] = size / max(_quantile(size, sparsity), 1e-30)
        for name, mask in scopes.masks(scores, sparsity).items():
            self._masks[name].mask.copy_(mask)
            self._masks[name].dense_gradient = False


def _quantile(size: Tensor, sparsity: float) -> float:
    """The largest of the smallest `sparsity` of `size`."""
    count = scopes.zeros_for(sparsity, size.numel())
    return float(size.flatten().kthvalue(count).values) if count else 0.0


METHOD = Method(
    "surgery",
    "magnitude thresholds; pruned weights keep learning and may come back",
    "Guo, Yao and Chen 2016",
    SurgeryOptions,
    Surgeon,
)
