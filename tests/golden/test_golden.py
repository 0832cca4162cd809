"""Golden containers decode and run for ever, to the same bits (tools/golden.py makes them)."""

from pathlib import Path

import numpy as np
import pytest

from zeroskip.converters.codecs import POSITIONS, VALUES
from zeroskip.converters.container import describe
from zeroskip.converters.format import MAJOR, OpCode
from zeroskip.runtime import Model

FILES = sorted(Path(__file__).parent.glob("v*/*.zsk"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_golden_container_gives_its_outputs(path: Path) -> None:
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as case:
        y = np.asarray(Model.load(path).run(case["x"]))
        assert y.dtype == case["y"].dtype and y.tobytes() == case["y"].tobytes()
    assert describe(path.read_bytes()).version.startswith(f"{MAJOR}.")


def test_the_goldens_hold_every_op_and_codec() -> None:
    descriptions = [describe(path.read_bytes()) for path in FILES]
    ops = {op.op for d in descriptions for op in d.ops}
    assert ops == {code.name.lower() for code in OpCode}
    codecs = " ".join(op.codec for d in descriptions for op in d.ops if op.codec)
    for name in (*POSITIONS, *VALUES, "by columns"):
        assert name in codecs
