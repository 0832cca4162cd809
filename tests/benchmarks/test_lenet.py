"""The LeNet experiment goes on after a kill as if nothing had happened."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("kmeans1d")

from zeroskip.errors import InputError  # noqa: E402
from zeroskip.models import LeNet300  # noqa: E402

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "lenet.py"


@pytest.fixture(scope="module")
def lenet() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_lenet", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def recipe(lenet: Any, method: str) -> Any:
    small = {"train_epochs": 2, "prune_epochs": 2, "tune_epochs": 1, "share_epochs": 2}
    if method == "variational":
        options: dict[str, Any] = {"warm_up": (0, 1), "log_sigma2": -4.0}
        return lenet.Recipe(LeNet300, method, options, 4, **small)
    layers = {"fc1": 0.9, "fc2": 0.8, "fc3": 0.5}
    return lenet.Recipe(LeNet300, "magnitude", {}, 4, per_layer=layers, shift=1, **small)


@pytest.mark.parametrize("method", ["magnitude", "variational"])
def test_a_killed_run_goes_on(
    lenet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    torch.manual_seed(0)
    data = lenet.Samples(torch.rand(150, 1, 28, 28), torch.randint(0, 10, (150,)))
    chosen = recipe(lenet, method)
    whole = lenet.Run("run", chosen, 3, data, tmp_path / "whole").model()

    kept: Callable[..., float] = lenet.Run._epoch
    left = [0]

    def killed(self: Any, *arguments: Any) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return kept(self, *arguments)

    monkeypatch.setattr(lenet.Run, "_epoch", killed)
    for _ in range(20):
        left[0] = 1  # every run does one epoch and dies in the next
        torch.manual_seed(99)
        try:
            resumed = lenet.Run("run", chosen, 3, data, tmp_path / "killed").model()
            break
        except KeyboardInterrupt:
            continue
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [p.name for p in (tmp_path / "killed").iterdir()] == ["run-3.pt"]


def test_a_file_that_is_no_checkpoint(lenet: Any, tmp_path: Path) -> None:
    (tmp_path / "run-0.pt").write_bytes(b"something else")
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        lenet._load(tmp_path / "run-0.pt")
