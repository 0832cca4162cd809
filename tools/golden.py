"""Make golden containers: files that every later version must run to the same outputs.

    python tools/golden.py

Writes tests/golden/v<format version>/<name>.zsk and .npz (x, y) for names that are not there
yet; what is there is never changed. A new format version or codec adds files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from random_graphs import random_graph, random_inputs  # noqa: E402

from zeroskip.converters import container, reference  # noqa: E402
from zeroskip.converters.format import MAJOR, MINOR  # noqa: E402
from zeroskip.converters.planner import Prefer  # noqa: E402
from zeroskip.errors import ModelError  # noqa: E402

FOLDER: Final = ROOT / "tests" / "golden" / f"v{MAJOR}.{MINOR}"
LARGEST_BYTES: Final = 1500


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    for seed in range(600):
        dtype = ("int8", "int8", "float32")[seed % 3]
        io = (None, "uint8", "float32")[seed // 3 % 3] if dtype == "int8" else None
        graph = random_graph(seed, dtype, 3, io)
        try:
            blob = container.build(graph, prefer=list(Prefer)[seed // 9 % 2])
        except ModelError:
            continue
        description = container.describe(blob)
        kinds = {f"{op.op} {dtype}" for op in description.ops}
        kinds |= {f"{op.codec} {dtype}" for op in description.ops if op.codec}
        kinds |= {f"{port.dtype} input" for port in description.inputs}
        path = FOLDER / f"{seed:03}.zsk"
        if len(blob) > LARGEST_BYTES or kinds <= seen:
            continue
        seen |= kinds
        if path.exists():
            continue
        x = random_inputs(graph, 2, seed)
        path.write_bytes(blob)
        np.savez_compressed(path.with_suffix(".npz"), x=x, y=reference.run(graph, [x])[0])
        print(f"{path.relative_to(ROOT)}: {', '.join(sorted(kinds))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
