"""A training that is killed after any epoch goes on as if nothing had happened."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.compression import checkpoint  # noqa: E402
from zeroskip.compression.samples import Samples  # noqa: E402
from zeroskip.compression.training import Fit, Training, accuracy, train_steps  # noqa: E402
from zeroskip.errors import InputError  # noqa: E402

EPOCHS = 4


def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (60, 1, 6, 6), generator=generator).to(torch.uint8)
    return Samples(values, (values[:, 0, 0, 0] > 127).long(), 255)


def training(method: str | None, optimizer: str = "adam", distill: float = 0.0) -> Training:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 2))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    pruner = None
    if method == "variational":
        pruner = pruning.attach(method, model, samples=60, warm_up=(0, 6), log_sigma2=-6.0)
    elif method is not None:
        pruner = pruning.attach(method, model, sparsity=0.8, steps=10)
    fit = Fit(EPOCHS, 1e-2, optimizer, 13, 1e-4, 0.2, "shift", distill)
    return Training(model, samples(), fit, pruner=pruner, own_rate=3e-2, teacher=teacher)


@pytest.mark.parametrize(
    ("method", "optimizer", "distill"),
    [(None, "sgd", 0.0), ("magnitude", "adam", 0.5), ("variational", "adam", 0.0)],
)
def test_it_goes_on_after_every_epoch(
    tmp_path: Path, method: str | None, optimizer: str, distill: float
) -> None:
    def make() -> Training:
        return training(method, optimizer, distill)

    whole = checkpoint.train(make, tmp_path / "whole.pt", "run")

    class Killed(BaseException):
        pass

    def report(run: Training, loss: float) -> None:
        torch.rand(run.epoch)  # whatever happens between two runs
        raise Killed

    for _ in range(EPOCHS):
        with pytest.raises(Killed):
            checkpoint.train(make, tmp_path / "killed.pt", "run", report=report)
    resumed = checkpoint.train(make, tmp_path / "killed.pt", "run")
    assert resumed.epoch == EPOCHS
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    checkpoint.train(lambda: training(None), tmp_path / "c.pt", "one")
    with pytest.raises(InputError, match="checkpoint of another run"):
        checkpoint.train(lambda: training(None), tmp_path / "c.pt", "two")
    with pytest.raises(InputError, match="does not fit this run"):
        checkpoint.train(lambda: training("variational"), tmp_path / "c.pt", "one")


def test_a_write_that_fails_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_weights_are_learnt_and_decay_spares_biases() -> None:
    run = training(None, "sgd")
    before = accuracy(run.model, run.samples)
    for _ in range(EPOCHS):
        run.run_epoch()
    assert accuracy(run.model, run.samples) > before
    decays = {
        id(p): group["weight_decay"] for group in run._optimizer.param_groups
        for p in group["params"]
    }  # fmt: skip
    for name, parameter in run.model.named_parameters():
        assert decays[id(parameter)] == (1e-4 if name.endswith("weight") else 0)


def test_bfloat16_is_used_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(bfloat16: bool) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
        train_steps(model, samples(), Fit(1, 1e-2, batch=13, bfloat16=bfloat16), seed=0)
        return model[1].weight.detach()

    monkeypatch.setattr("zeroskip.compression.training.has_bfloat16", lambda: False)
    assert torch.equal(weights(True), weights(False))
    monkeypatch.setattr("zeroskip.compression.training.has_bfloat16", lambda: True)
    assert not torch.equal(weights(True), weights(False))
    assert torch.allclose(weights(True), weights(False), atol=5e-3)
