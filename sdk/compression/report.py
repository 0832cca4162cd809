"""The report of a compression run: per layer in the columns of Deep Compression's tables.

P is pruning, Q weight sharing, H Huffman coding (Han, Mao and Dally 2016, tables 2 to 5). Bits
and rates are those of this project's codecs on the finished weights: P+Q is 4-bit gaps with
packed indices, P+Q+H Huffman-coded gaps with Huffman-coded indices, both with their codebooks
and tables. A rate is bytes over the layer's weights in float32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from zeroskip.compression.pipeline import Compressed
from zeroskip.compression.recipe import Goal, Recipe
from zeroskip.converters import codecs
from zeroskip.converters.container import describe
from zeroskip.converters.description import weights
from zeroskip.converters.ir import Array
from zeroskip.errors import MissingToolError

TEMPLATE: Final = "report.html"
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True)
class LayerRow:
    """A layer, or the total. Bits are means per non-zero weight, rates and densities 0..1;
    `bound_bytes` is the entropy of positions and values coded apart as independent symbols."""

    name: str
    weights: int
    nonzero: int
    centroids: int
    weight_bits_pq: float
    weight_bits_pqh: float
    index_bits_pq: float
    index_bits_pqh: float
    rate_pq: float
    rate_pqh: float
    codec: str
    codec_bytes: int
    bound_bytes: float

    @property
    def density(self) -> float:
        return self.nonzero / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class _Coded:
    """Bits of a layer under one pair of codecs."""

    values: int
    positions: int
    stored_bytes: int


def layer_rows(named_blob: bytes, sizes: dict[str, int]) -> list[LayerRow]:
    """One row per layer with weights, and the total.

    `named_blob` is the container with the names of layers; `sizes` counts the weights that each
    layer had in the source model, by its name, where channels have been removed since.
    """
    matrices = weights(named_blob)
    rows, parts = [], []
    for op in describe(named_blob).ops:
        if op.weights is None:
            continue
        matrix = matrices[op.index]
        total = sizes.get(op.name, matrix.size)
        nonzero = int((matrix != 0).sum())
        pq = _coded(matrix, "gap4", "packed")
        pqh = _coded(matrix, "gap", "huffman")
        centroids = np.unique(matrix[matrix != 0]).size
        parts.append((pq, pqh))
        rows.append(
            _row(op.name, total, nonzero, centroids, pq, pqh, op.weights.codec,
                 op.weights.stream_bytes, op.weights.entropy_bytes)
        )  # fmt: skip
    pq, pqh = (_sum([part[i] for part in parts]) for i in (0, 1))
    rows.append(
        _row("total", sum(r.weights for r in rows), sum(r.nonzero for r in rows),
             max((r.centroids for r in rows), default=0), pq, pqh, "",
             sum(r.codec_bytes for r in rows), sum(r.bound_bytes for r in rows))
    )  # fmt: skip
    return rows


def as_json(
    result: Compressed, rows: Sequence[LayerRow], model: str, data: str, goal: Goal, recipe: Recipe
) -> dict[str, Any]:
    """The run as one JSON object; the figures are measured: bytes of the container, accuracy of
    the C runtime on this host over all test samples."""
    return {
        "model": model,
        "data": data,
        "provenance": "measured: bytes of the container, accuracy of the C runtime on the host",
        "goal": {k: v for k, v in asdict(goal).items() if v is not None},
        "recipe": asdict(recipe),
        "bytes": len(result.blob),
        "float_bytes": result.float_bytes,
        "ratio": round(result.ratio, 3),
        "test_accuracy": result.accuracy,
        "float_test_accuracy": result.float_accuracy,
        "weights": result.weights,
        "nonzero": result.nonzero,
        "sections": describe(result.blob).sections,
        "layers": [{**asdict(row), "density": row.density} for row in rows],
        "stages": [asdict(stage) for stage in result.stages],
    }


def as_html(report: dict[str, Any]) -> str:
    """The JSON object as one page without outside references. Raises MissingToolError without
    Jinja."""
    try:
        import jinja2
    except ImportError:
        raise MissingToolError(
            "the HTML report needs Jinja; run: pip install 'zeroskip[compress]'"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zeroskip.compression", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template(TEMPLATE).render(
        **report, recipe_text=json.dumps(report["recipe"], indent=1, default=str)
    )
    return page


def _coded(matrix: Array, positions: str, values: str) -> _Coded | None:
    encoded = codecs.encode(matrix, 0, positions, values)
    if encoded is None:  # all zero, or a single value: nothing to tell apart
        return None
    return _Coded(8 * encoded.value_bytes, 8 * encoded.position_bytes, encoded.stream_bytes)


def _sum(parts: Sequence[_Coded | None]) -> _Coded:
    there = [p for p in parts if p is not None]
    return _Coded(
        sum(p.values for p in there),
        sum(p.positions for p in there),
        sum(p.stored_bytes for p in there),
    )


def _row(
    name: str,
    total: int,
    nonzero: int,
    centroids: int,
    pq: _Coded | None,
    pqh: _Coded | None,
    codec: str,
    codec_bytes: int,
    bound: float,
) -> LayerRow:
    pq = pq or _Coded(0, 0, 0)
    pqh = pqh or pq
    each = max(1, nonzero)
    dense = _FLOAT_BYTES * max(1, total)
    return LayerRow(
        name, total, nonzero, centroids, pq.values / each, pqh.values / each,
        pq.positions / each, pqh.positions / each, pq.stored_bytes / dense,
        pqh.stored_bytes / dense, codec, codec_bytes, round(bound, 1),
    )  # fmt: skip
