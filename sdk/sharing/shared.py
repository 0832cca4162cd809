"""Weight sharing of torch modules: a trainable codebook and fixed assignments.

Han, Mao and Dally, "Deep Compression" (2016), section 3. The parametrization's trainable tensor
is the codebook; autograd gives each centroid the sum of the gradients of the weights that
share it. A weight of zero stays exactly zero and uses no centroid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from zeroskip.errors import InputError
from zeroskip.pruning.masks import Mask, bake_target, put_mask
from zeroskip.pruning.targets import Select, Target, resolve, targets
from zeroskip.sharing.clustering import MAX_CENTROIDS, cluster

MIN_CENTROIDS: Final = 2
_CODES_KEY: Final = ".codes"


@dataclass(frozen=True)
class SharedLayer:
    """What sharing did to one tensor.

    `centroids` is the number of the largest codebook, of `codebooks` (1, or one per output
    channel with a weight left); less than `requested` where a tensor has fewer distinct
    non-zero weights. `error` is the root mean square of the change of the non-zero weights
    over the root mean square of those weights. All-zero tensors have 0 centroids.
    """

    name: str
    weights: int
    nonzero: int
    requested: int
    centroids: int
    codebooks: int
    error: float

    @property
    def bits(self) -> int:
        """Bits of an index into the largest codebook."""
        return max(0, self.centroids - 1).bit_length()


def _look_up(codebook: Tensor, codes: Tensor) -> Tensor:
    table = torch.cat([codebook.new_zeros(1), codebook])
    return torch.index_select(table, 0, codes.flatten().long()).view(codes.shape)


class _LookUp(torch.autograd.Function):
    """`_look_up` with the sum over each cluster as its gradient.

    torch's own gradient of a look-up adds row by row, which for a small table and many codes
    takes most of a training step.
    """

    @staticmethod
    def forward(ctx: Any, codebook: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.size = codebook.numel()
        return _look_up(codebook, codes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (codes,) = ctx.saved_tensors
        flat = codes.flatten()
        live = flat.nonzero().flatten()
        parts = gradient.flatten()[live].double()
        sums = torch.bincount(flat[live] - 1, parts, minlength=ctx.size)
        return sums.to(gradient.dtype), None


class SharedWeights(nn.Module):
    """Parametrization from a codebook (K,) to weights: entry `codes - 1`, or 0 for code 0.

    `codes` is an int32 buffer of the weights' shape; the codebooks of several channels stand
    one after the other.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, codebook: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes.to(torch.int32))
        self._start: Tensor | None = codebook

    def forward(self, codebook: Tensor) -> Tensor:
        if not codebook.requires_grad or not torch.is_grad_enabled():
            return _look_up(codebook, self.codes)
        apply: Callable[[Tensor, Tensor], Tensor] = _LookUp.apply
        return apply(codebook, self.codes)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        """The codebook: at registration the given one, later the means of the clusters."""
        if self._start is not None:
            start, self._start = self._start, None
            return (start,)
        codes = self.codes.flatten().long()
        size = int(self.codes.max())
        flat = weight.detach().flatten().double()
        sums = torch.zeros(size + 1, dtype=torch.float64, device=flat.device)
        counts = torch.bincount(codes, minlength=size + 1).clamp_min(1)
        return ((sums.index_add(0, codes, flat) / counts)[1:].to(weight.dtype),)

    def extra_repr(self) -> str:
        return f"{list(self.codes.shape)}, {int(self.codes.max())} centroids"


def share(
    model: nn.Module,
    centroids: int | Mapping[str, int],
    *,
    init: str = "linear",
    per_channel: bool = False,
    select: Select | None = None,
    exclude: Sequence[str] = (),
    seed: int = 0,
) -> tuple[SharedLayer, ...]:
    """Let the selected weights of `model` take few values, in place; says what it did.

    Args:
        centroids: 2..256 non-zero values per tensor (per output channel with `per_channel`),
            for all or by parameter or module name. Where there are no more distinct weights
            than that, each keeps its value; an all-zero tensor is masked, so that it stays so.
        init: see clustering.py; "linear" is the paper's choice, "optimal" has the least error.
        select, exclude: see zeroskip.pruning.targets; the default is linear and convolution
            layers.

    Parametrizations that are there (masks, weight normalisation) are replaced: what the module
    computes with is what gets shared, and zeros stay zero. The codebooks are new parameters:
    make the optimizer afterwards. Bake the weights with `bake`, or convert the model as it is.

    Raises InputError for NaN or infinite weights or bad arguments, before anything is changed.
    """
    chosen = targets(model, select, exclude)
    counts = resolve(centroids, list(chosen), "centroids")
    for name, count in counts.items():
        if not MIN_CENTROIDS <= count <= MAX_CENTROIDS:
            raise InputError(
                f"'{name}': {count} centroids are not in {MIN_CENTROIDS}..{MAX_CENTROIDS}"
            )
    plans = [
        _plan(target, counts[name], init, per_channel, seed) for name, target in chosen.items()
    ]
    for target, plan in zip(chosen.values(), plans, strict=True):
        if plan.codebook.size:
            _install(target, plan)
        else:  # zero stays zero
            put_mask(target, torch.zeros_like(target.value, dtype=torch.bool))
    return tuple(plan.report for plan in plans)


def shared_weights(
    model: nn.Module, select: Select | None = None
) -> dict[str, tuple[nn.Parameter, SharedWeights]]:
    """(codebook, parametrization) by name, of the tensors that share weights."""
    found = {}
    for name, target in targets(model, select or _any).items():
        chain = target.parametrizations
        if chain is not None and isinstance(chain[0], SharedWeights):
            codebook = chain.original0
            assert isinstance(codebook, nn.Parameter)
            found[name] = (codebook, chain[0])
    return found


def codebooks(model: nn.Module, select: Select | None = None) -> list[nn.Parameter]:
    """The trainable centroids (K,) of every shared tensor, for an optimizer."""
    return [codebook for codebook, _ in shared_weights(model, select).values()]


def bake(model: nn.Module, select: Select | None = None) -> None:
    """Replace shared tensors by plain parameters of the same values."""
    for name in shared_weights(model, select):
        bake_target(targets(model, _any)[name])


def load_shared(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a plain model the sharing, and masks on top of it, of which `state` (a state_dict)
    tells, and load it. Raises InputError where `state` is of another model."""
    codes: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for key, value in state.items():
        path, separator, rest = key.partition("parametrizations.")
        if separator and key.endswith(_CODES_KEY):
            codes[path + rest.split(".")[0]] = value
        elif separator and key.endswith(".mask"):
            masks[path + rest.split(".")[0]] = value
    if codes or masks:
        present = targets(model, _any)
        for name in [*codes, *masks]:
            if name not in present:
                raise InputError(f"the state has shared weights or a mask '{name}', not the model")
        for name in dict.fromkeys([*codes, *masks]):
            _restore(present[name], codes.get(name), masks.get(name))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise InputError(f"the state does not fit {type(model).__name__}: {line[:200]}") from None


def _restore(target: Target, codes: Tensor | None, mask: Tensor | None) -> None:
    shape = tuple(target.value.shape)
    for given in (codes, mask):
        if given is not None and tuple(given.shape) != shape:
            raise InputError(
                f"the state's '{target.name}' has shape {list(given.shape)}, the model's "
                f"{list(shape)}"
            )
    if target.parametrizations is not None:
        raise InputError(f"'{target.name}' has parametrizations already; load into a plain model")
    for module, attribute in target.places:
        if codes is not None:
            start = target.value.new_zeros(int(codes.max()))
            register_parametrization(module, attribute, SharedWeights(codes, start))
        if mask is not None:
            register_parametrization(module, attribute, Mask(mask))


@dataclass(frozen=True)
class _Plan:
    codebook: np.ndarray[tuple[int], np.dtype[np.float64]]
    codes: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    report: SharedLayer


def _plan(target: Target, count: int, init: str, per_channel: bool, seed: int) -> _Plan:
    value = target.value
    weights = value.detach().cpu().double().numpy()
    if not np.isfinite(weights).all():
        raise InputError(f"the weights of '{target.name}' hold NaN or infinity; nothing is shared")
    codes = np.zeros(weights.shape, np.int32)
    if per_channel and weights.ndim > 1:
        rows = np.moveaxis(weights, target.channel_axis, 0)
        code_rows = np.moveaxis(codes, target.channel_axis, 0)
        groups = [(rows[i], code_rows[i]) for i in range(rows.shape[0])]
    else:
        groups = [(weights, codes)]
    books: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    offset, inertia = 1, 0.0
    for group, group_codes in groups:
        live = group != 0
        if not live.any():
            continue
        found = cluster(group[live], count, init, seed)
        group_codes[live] = offset + found.labels
        books.append(found.centroids)
        offset += found.centroids.size
        inertia += found.inertia
    energy = float(np.square(weights).sum())
    report = SharedLayer(
        target.name,
        weights.size,
        int((weights != 0).sum()),
        count,
        max((book.size for book in books), default=0),
        len(books),
        float(np.sqrt(inertia / energy)) if energy else 0.0,
    )
    codebook = np.concatenate(books) if books else np.zeros(0)
    return _Plan(codebook, codes, report)


def _install(target: Target, plan: _Plan) -> None:
    trainable = target.parametrizations is not None or target.original.requires_grad
    value = target.value
    codes = torch.from_numpy(plan.codes).to(value.device)
    start = torch.from_numpy(plan.codebook).to(value.device, value.dtype)
    bake_target(target)
    made = SharedWeights(codes, start)
    register_parametrization(target.module, target.attribute, made)
    chain = target.parametrizations
    assert chain is not None
    codebook = nn.Parameter(start.clone(), requires_grad=trainable)
    chain.original0 = codebook
    for module, attribute in target.aliases:
        made._start = start
        register_parametrization(module, attribute, made)
        tied = Target(target.name, module, attribute).parametrizations
        assert tied is not None
        tied.original0 = codebook


def _any(name: str, module: nn.Module) -> bool:
    return True
