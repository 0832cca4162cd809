"""Sparse variational dropout: learn a noise level per weight, drop what is mostly noise.

Molchanov, Ashukha and Vetrov, "Variational dropout sparsifies deep neural networks" (2017).
Each weight is N(theta, sigma^2) with the additive noise reparametrisation (theta and log sigma^2
are trained), log alpha = log sigma^2 - log theta^2. The noise is drawn per output (local
reparametrisation); the Kullback-Leibler divergence from the log-uniform prior is the paper's
approximation (14); weights with log alpha above 3 are pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

from zeroskip.errors import InputError, UnsupportedError
from zeroskip.pruning.base import Context, Method, Pruner
from zeroskip.pruning.masks import bake_target, mask_of, put_mask
from zeroskip.pruning.targets import Target, parametrizations_of

K1: Final = 0.63576
K2: Final = 1.8732
K3: Final = 1.48695
_LOG_ALPHA_LIMIT: Final = 8.0
_TINY: Final = 1e-8  # keeps logarithms and square roots differentiable
_LAYERS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class VariationalOptions:
    """Hyper-parameters.

    samples: how many training samples there are; the divergence counts 1 / samples of the mean
        loss of a batch.
    warm_up: (first, last) steps between which the divergence's weight rises from 0 to
        `strength`.
    strength: 1 in the paper; more prunes more.
    log_sigma2: where the noise starts. The paper's -10 with Adam at 1e-3 takes 10^4 steps and
        more; use a higher rate for `parameters()` in short runs.
    threshold: of log alpha, above which a weight is pruned; 3 is a dropout rate of 0.95.
    """

    samples: int
    warm_up: tuple[int, int] = (0, 1)
    strength: float = 1.0
    log_sigma2: float = -10.0
    threshold: float = 3.0

    def __post_init__(self) -> None:
        first, last = self.warm_up
        if self.samples < 1:
            raise InputError(f"variational dropout: samples {self.samples} must be at least 1")
        if not 0 <= first < last:
            raise InputError(
                f"variational dropout: warm_up {self.warm_up} must rise from 0 or more"
            )
        if self.strength < 0:
            raise InputError(
                f"variational dropout: strength {self.strength:g} must not be negative"
            )


def divergence(log_alpha: Tensor) -> Tensor:
    """KL(q || p) per weight up to a constant, 0 for alpha -> infinity; equation (14), negated."""
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * functional.softplus(-log_alpha)


class _Divergence(torch.autograd.Function):
    """Sum of `divergence` over a tensor, from theta and log sigma^2.

    The same as autograd's, with the derivative written out: it is the larger part of a training
    step, and this way takes a third of the passes over memory.
    """

    @staticmethod
    def forward(ctx: Any, theta: Tensor, log_sigma2: Tensor) -> Tensor:
        square = (theta * theta).add_(_TINY)
        log_alpha = torch.log(square).neg_().add_(log_sigma2)
        inside = log_alpha.abs() < _LOG_ALPHA_LIMIT
        log_alpha.clamp_(-_LOG_ALPHA_LIMIT, _LOG_ALPHA_LIMIT)
        gate = torch.sigmoid(K2 + K3 * log_alpha)
        total = K1 * gate.numel() - K1 * gate.sum()
        total += 0.5 * functional.softplus(-log_alpha).sum()
        slope = gate.mul_(gate - 1).mul_(K1 * K3)
        slope.sub_(torch.sigmoid_(log_alpha.neg_()), alpha=0.5).mul_(inside)
        ctx.save_for_backward(theta, square, slope)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        theta, square, slope = ctx.saved_tensors
        slope = slope * gradient
        return slope * theta / square * -2, slope


class Noise(nn.Module):
    """Parametrization with the noise level log_sigma2 of each weight.

    In training the weight is its mean; the layer's forward hook adds the noise. In evaluation,
    weights with log alpha above the threshold are exactly zero.
    """

    def __init__(self, weight: Tensor, log_sigma2: float, threshold: float) -> None:
        super().__init__()
        self.log_sigma2 = nn.Parameter(torch.full_like(weight, log_sigma2))
        self.threshold = threshold

    def forward(self, theta: Tensor) -> Tensor:
        if self.training:
            return theta
        return torch.where(self.kept(theta), theta, theta.new_zeros(()))

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    def log_alpha(self, theta: Tensor) -> Tensor:
        ratio = self.log_sigma2 - torch.log(theta * theta + _TINY)
        return ratio.clamp(-_LOG_ALPHA_LIMIT, _LOG_ALPHA_LIMIT)

    def kept(self, theta: Tensor) -> Tensor:
        return self.log_alpha(theta) <= self.threshold


def _add_noise(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Forward hook. It finds its state through `module`, so that deepcopy works."""
    chain = parametrizations_of(module, "weight")
    if not module.training or chain is None:
        return None
    noise = next(p for p in chain if isinstance(p, Noise))
    squares = inputs[0] * inputs[0]
    variance = torch.exp(noise.log_sigma2)
    if isinstance(module, nn.Linear):
        spread = functional.linear(squares, variance)
    else:
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        spread = module._conv_forward(squares, variance, None)
    return output + torch.sqrt(spread.clamp_min(0) + _TINY) * torch.randn_like(output)


@dataclass
class VariationalDropout:
    """Sparse variational dropout at work; a Pruner. The noise comes from torch's generator."""

    targets: Mapping[str, Target]
    options: VariationalOptions
    context: Context
    _step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for target in self.targets.values():
            self._check(target)
        self._noise: dict[str, Noise] = {}
        self._hooks: list[Any] = []
        for name, target in self.targets.items():
            made = Noise(target.value, self.options.log_sigma2, self.options.threshold)
            register_parametrization(target.module, target.attribute, made)
            # The class of the module, and with it its type for other tools, stays the same.
            hook: Callable[..., Any] = _add_noise
            self._hooks.append(target.module.register_forward_hook(hook))
            self._noise[name] = made

    def step(self) -> None:
        self._step += 1

    def penalty(self) -> Tensor:
        """The divergence's share of the mean loss; with gradients."""
        first, last = self.options.warm_up
        ramp = min(1.0, max(0.0, (self._step - first) / (last - first)))
        total = torch.zeros(())
        for name, target in self.targets.items():
            total = total.to(target.original.device)
            apply: Callable[[Tensor, Tensor], Tensor] = _Divergence.apply
            total = total + apply(target.original, self._noise[name].log_sigma2)
        return total * (ramp * self.options.strength / self.options.samples)

    def parameters(self) -> list[nn.Parameter]:
        return [noise.log_sigma2 for noise in self._noise.values()]

    def finish(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for name, target in self.targets.items():
            if (noise := self._noise.pop(name, None)) is None:
                continue
            with torch.no_grad():
                kept = noise.kept(target.original)
            noise.train()  # its value is then the mean
            bake_target(target)
            put_mask(target, kept)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step = int(state["step"])

    def _check(self, target: Target) -> None:
        if not isinstance(target.module, _LAYERS) or target.attribute != "weight":
            raise UnsupportedError(
                f"variational dropout does not know {type(target.module).__name__} "
                f"'{target.name}'; exclude it"
            )
        if target.aliases:
            raise UnsupportedError(
                f"variational dropout: '{target.name}' is shared by modules; exclude it"
            )
        if target.parametrizations is not None:
            kind = "a mask" if mask_of(target) else "a parametrization"
            raise InputError(f"variational dropout: '{target.name}' has {kind} already; bake it")
        if not bool(torch.isfinite(target.value).all()):
            raise InputError(f"the weights of '{target.name}' are not finite")


def _attach(targets: Mapping[str, Target], options: Any, context: Context) -> Pruner:
    return VariationalDropout(targets, options, context)


METHOD = Method(
    "variational",
    "sparse variational dropout: weights that are mostly noise; for very high sparsity",
    "Molchanov, Ashukha and Vetrov 2017",
    VariationalOptions,
    _attach,
)
