"""The C runtime under AddressSanitizer and UndefinedBehaviorSanitizer, on hostile containers."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from random_graphs import forced, layer_graph, random_graph, short_segments, uneven_graph

from zeroskip.converters import container
from zeroskip.converters.codecs import POSITIONS, VALUES
from zeroskip.converters.description import describe
from zeroskip.converters.format import OpCode
from zeroskip.converters.ir import Graph, Op, Quantization, Tensor, Unary, UnaryKind
from zeroskip.converters.planner import Prefer
from zeroskip.errors import FormatError, ModelError
from zeroskip.runtime import Model

ROOT = Path(__file__).resolve().parents[2]
SEED = 1
MUTATIONS = 24_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sanitizers") / "fuzz_model"
    subprocess.run(
        [
            *("cc", "-std=c99", "-g", "-O1", "-DZS_FUZZ_MAIN"),
            *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
            f"-I{ROOT / 'runtime_c' / 'include'}",
            *map(str, sorted((ROOT / "runtime_c" / "src").glob("*.c"))),
            str(ROOT / "tests" / "fuzz" / "fuzz_model.c"),
            *("-o", str(path)),
        ],
        check=True,
    )
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small containers that between them hold every op and every codec."""
    folder = tmp_path_factory.mktemp("corpus")
    seen: set[str] = set()
    files = []
    for seed in range(400):
        dtype = ("int8", "float32")[seed % 2]
        io = (None, None, "uint8", None, "float32", None)[seed % 6] if dtype == "int8" else None
        try:
            blob = container.build(
                random_graph(seed, dtype, 2, io),
                prefer=list(Prefer)[seed // 2 % len(Prefer)],
                names=seed % 3 == 0,
            )
        except ModelError:
            continue
        kinds = {f"{op.op} {dtype}" for op in describe(blob).ops}
        kinds |= {f"{op.codec} {dtype}" for op in describe(blob).ops if op.codec}
        if len(blob) < 2000 and not kinds <= seen:
            seen |= kinds
            files.append(folder / f"{seed}.zsk")
            files[-1].write_bytes(blob)
    for positions in POSITIONS:
        for values in VALUES:
            graph = layer_graph("fully_connected", 3, "int8")
            blob = container.build(graph, choose=forced(positions, values), names=False)
            seen |= {f"{op.codec} int8" for op in describe(blob).ops}
            files.append(folder / f"{positions}+{values}.zsk")
            files[-1].write_bytes(blob)
    for seed, dtype in ((11, "int8"), (13, "float32")):
        with short_segments():
            blob = container.build(uneven_graph(seed, dtype), choose=forced("ans", "ans"))
        files.append(folder / f"uneven-{dtype}.zsk")
        files[-1].write_bytes(blob)
    assert {name.split()[0] for name in seen} >= {code.name.lower() for code in OpCode}
    for codec in (*POSITIONS, *VALUES, "by columns"):
        assert any(codec in name for name in seen), codec
    return files


def test_truncated_and_mutated_containers_end_in_an_error_or_a_run(
    program: Path, corpus: list[Path]
) -> None:
    done = subprocess.run(
        [str(program), str(SEED), str(MUTATIONS), *map(str, corpus)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    tried = int(done.stdout.splitlines()[-1].split()[0])
    assert tried >= 20_000 + sum(path.stat().st_size for path in corpus) - len(corpus)
    accepted = [int(line.split()[-2]) for line in done.stdout.splitlines()[:-1]]
    assert min(accepted) > 0  # mutations reach behind the checksum


def test_a_model_over_the_limit_of_work_is_refused(tmp_path: Path) -> None:
    """A small file must not keep a device busy for hours: many ops over a large arena."""
    shape = (1, 8000, 8000)
    tensors = [Tensor(f"t{i}", shape, "int8", Quantization((0.125,), 0)) for i in range(81)]
    ops = tuple(Op(f"tanh{i}", Unary(UnaryKind.TANH), (f"t{i}",), f"t{i + 1}") for i in range(80))
    graph = Graph("busy", {t.name: t for t in tensors}, ops, ("t0",), ("t80",))
    with pytest.raises(FormatError):
        Model(container.build(graph))
    fewer = replace(graph, ops=ops[:60], outputs=("t60",))
    assert Model(container.build(fewer.with_ops(fewer.ops))).op_count == 60
