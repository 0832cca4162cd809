"""What `zeroskip compress` is asked for: hyper-parameters and a goal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from zeroskip import pruning
from zeroskip.compression.training import Fit
from zeroskip.errors import InputError
from zeroskip.sharing import INITS

AUTO: Final = "auto"


@dataclass(frozen=True)
class Goal:
    """When to stop pruning: exactly one of the three.

    sparsity: this fraction of the weights is zero, over all layers, or by layer name.
    ratio: the container is this many times smaller than the parameters in float32.
    loss: the most validation accuracy to be lost, 0.01 is one point; as sparse as that allows.
    """

    sparsity: float | Mapping[str, float] | None = None
    ratio: float | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        given = [n for n in ("sparsity", "ratio", "loss") if getattr(self, n) is not None]
        if len(given) != 1:
            raise InputError(f"give one goal of sparsity, ratio and loss, not {len(given)}")
        sparsities = (
            [] if self.sparsity is None
            else list(self.sparsity.values()) if isinstance(self.sparsity, Mapping)
            else [self.sparsity]
        )  # fmt: skip
        for value in sparsities:
            if not 0 <= value < 1:
                raise InputError(f"sparsity {value:g} must be at least 0 and less than 1")
        if self.ratio is not None and not 1 < self.ratio < 1e6:
            raise InputError(f"target ratio {self.ratio:g} must be above 1")
        if self.loss is not None and not 0 <= self.loss < 1:
            raise InputError(f"accuracy loss {self.loss:g} must be in 0..1 (0.01 is one point)")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of the pipeline of Han, Mao and Dally, "Deep Compression" (2016).

    train: before pruning; 0 epochs for a model that is trained.
    prune: of each round of pruning: the sparsity rises along a cubic over the fraction `ramp` of
        the steps, the rest retrains what is left.
    share: of the centroids, with fixed assignments.
    method, scope, revive: of zeroskip.pruning; the method must be one that scores weights.
    centroids: non-zero values per layer, 2..256, one for all or by name; "auto" chooses the bits
        of each layer by a sensitivity sweep.
    bits_loss: the validation accuracy that "auto" may lose before centroids are trained.
    """

    train: Fit = field(default_factory=lambda: Fit(0, 1e-3))
    prune: Fit = field(default_factory=lambda: Fit(10, 1e-3))
    share: Fit = field(default_factory=lambda: Fit(3, 1e-4))
    method: str = "magnitude"
    scope: str = "global"
    revive: bool = False
    ramp: float = 0.5
    centroids: int | Mapping[str, int] | str = 32
    bits_loss: float = 0.002
    init: str = "optimal"
    exclude: tuple[str, ...] = ()
    calibration: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if pruning.method(self.method).scorer is None:
            raise InputError(f"method '{self.method}' gives no scores; the pipeline needs them")
        if not 0 < self.ramp <= 1:
            raise InputError(f"ramp {self.ramp:g} must be above 0 and at most 1")
        if isinstance(self.centroids, str) and self.centroids != AUTO:
            raise InputError(f"centroids '{self.centroids}' must be a number or '{AUTO}'")
        if self.init not in INITS:
            raise InputError(f"init '{self.init}' must be one of {', '.join(INITS)}")
        if self.calibration < 1:
            raise InputError(f"calibration {self.calibration} must be at least 1")
