"""The grid of an experiment: one cell per model, seed, method, ablation and sparsity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from zeroskip.experiments.spec import Conversion, MethodSpec, Spec, names, sparsities

CONTROL: Final = "unpruned"


@dataclass(frozen=True)
class Cell:
    """One training. `method` is None for the unpruned control; `label` names its row."""

    model: str
    seed: int
    label: str
    method: MethodSpec | None = None
    ablation: str = "none"
    sparsity: float = 0.0

    @property
    def row(self) -> str:
        """The label, with the ablation."""
        return self.label if self.ablation == "none" else f"{self.label}, {self.ablation}"


def grid(spec: Spec) -> list[Cell]:
    """All cells; the controls, on which others build, come first. Raises InputError."""
    labels = names(spec.methods)
    cells = [Cell(m, seed, CONTROL) for m in spec.models for seed in spec.seeds]
    for control in tuple(cells):
        for method, label in zip(spec.methods, labels, strict=True):
            for ablation in method.ablations:
                cells += [
                    replace(control, label=label, method=method, ablation=ablation, sparsity=s)
                    for s in sparsities(spec, method)
                ]
    return cells


def key(spec: Spec, cell: Cell) -> str:
    """Equal for cells that give the same result: a hash of all that decides about it."""
    return _hash(spec, cell, spec.conversion(cell.seed))


def control_key(spec: Spec, cell: Cell) -> str:
    """Equal for cells that start from the same trained control; conversion has no part in it."""
    return _hash(spec, Cell(cell.model, cell.seed, CONTROL), None)


def _hash(spec: Spec, cell: Cell, convert: Conversion | None) -> str:
    content: dict[str, Any] = {
        "data": [spec.data, spec.validation],
        "model": [cell.model, spec.fingerprint(cell.model)],
        "seed": cell.seed,
        "train": asdict(spec.train),
        "convert": None if convert is None else asdict(replace(convert, seeds=())),
    }
    if spec.data_fingerprint:
        content["file"] = spec.data_fingerprint
    if cell.method is not None:
        method = asdict(replace(cell.method, label="", ablations=()))
        del method["score_samples"]
        content |= {
            "method": method,
            "ablation": cell.ablation,
            "sparsity": cell.sparsity,
            "finetune": asdict(spec.finetune),
            "score_samples": cell.method.score_samples or spec.score_samples,
        }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
