"""The table of compression results is what the runs left."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "compression.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_compression", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_means_and_worst_of_the_seeds(benchmark: Any, tmp_path: Path) -> None:
    for seed, (size, error) in enumerate([(7000, 1.5), (7100, 1.7), (7500, 1.6)]):
        folder = tmp_path / f"lenet300-small-{seed}"
        folder.mkdir()
        figures = {
            "seed": seed, "bytes": size, "error": error, "float_error": 1.0, "weights": 266200,
            "nonzero": 5000, "float_bytes": 1066440, "network": "lenet300",
        }  # fmt: skip
        (folder / "figures.json").write_text(json.dumps(figures))
    text = benchmark.table(benchmark.Settings(None, tmp_path))
    assert "| lenet300-small | 98.12 | 7,200 (7,500) | 148 | 1.60 (1.70) | 1.00 | 0, 1, 2 |" in text
    assert "lenet5" not in text.split("|---")[1]


def test_the_committed_containers_are_those_of_the_table(benchmark: Any) -> None:
    kept = sorted(benchmark.RESULTS.glob("*.json"))
    assert kept
    text = benchmark.TABLE.read_text()
    sizes: dict[str, list[int]] = {}
    for path in kept:
        figures = json.loads(path.read_text())
        blob = path.with_suffix(".zsk").read_bytes()
        assert len(blob) == figures["bytes"]
        sizes.setdefault(figures["row"], []).append(len(blob))
    for row, found in sizes.items():
        mean = f"{sum(found) / len(found):,.0f} ({max(found):,})"
        assert f"| {row} |" in text and mean in text


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_the_committed_containers_have_the_errors_of_the_table(
    benchmark: Any, data: str, data_root: Path
) -> None:
    """The C runtime as it is now, over the whole test sets; of each row the first seed."""
    from zeroskip.compression import samples
    from zeroskip.compression.pipeline import correct

    test = samples.load(data, data_root).test
    checked = 0
    for path in sorted(benchmark.RESULTS.glob("*-0.json")):
        figures = json.loads(path.read_text())
        if figures["network"].startswith("resnet") == (data == "cifar10"):
            error = 100 * (1 - correct(path.with_suffix(".zsk").read_bytes(), test))
            assert error == pytest.approx(figures["error"], abs=0.005), path.stem
            checked += 1
    assert checked == 4


def test_every_row_names_layers_that_its_network_has(benchmark: Any) -> None:
    from zeroskip import pruning

    for row in benchmark.ROWS.values():
        model = benchmark.NETWORKS[row.network].make()
        if isinstance(row.goal.sparsity, dict):
            pruning.resolve(row.goal.sparsity, list(pruning.targets(model)), "sparsity")
        assert row.after is None or benchmark.ROWS[row.after].network == row.network
