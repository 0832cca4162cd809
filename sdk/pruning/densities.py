"""Densities per layer from the layers' shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from zeroskip.errors import InputError


def erdos_renyi(shapes: Mapping[str, Sequence[int]], density: float) -> dict[str, float]:
    """Densities proportional to (sum of the sides) / (their product), `density` in all.

    Mocanu et al. 2018, equation 3, for matrices: the probability of an edge is proportional to
    (n_out + n_in) / (n_out n_in). Convolutions count their kernel's sides too (Evci et al. 2020,
    "Rigging the lottery", section 3: Erdos-Renyi-Kernel). No density is above 1: what a full
    layer cannot take goes to the others.
    """
    if not 0 <= density <= 1:
        raise InputError(f"density {density:g} must be in 0..1")
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    budget = density * sum(sizes.values())
    full: set[str] = set()
    while True:
        rest = {n: sum(shapes[n]) for n in shapes if n not in full}
        left = budget - sum(sizes[n] for n in full)
        factor = left / max(1, sum(rest.values()))
        over = {n for n in rest if factor * rest[n] > sizes[n]}
        if not over:
            break
        full |= over
    return {n: 1.0 if n in full else factor * rest[n] / sizes[n] for n in shapes}
