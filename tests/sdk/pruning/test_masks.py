"""Masks hold exact zeros through training, copies, files and export."""

import copy
import io
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.converters.frontends import pytorch  # noqa: E402
from zeroskip.errors import InputError  # noqa: E402


def network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10), nn.ReLU(),
        nn.Linear(10, 3),
    )  # fmt: skip


def train(model: Any, optimizer: Any, steps: int = 5) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        loss = model(torch.randn(8, 1, 4, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_hold_through_an_optimizer_that_has_momentum_already(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer)  # the moments of the weights that will go are not zero
    masks = pruning.prune(model, 0.7)
    before = {n: t.value.clone() for n, t in pruning.targets(model).items()}
    train(model, optimizer)
    for n, target in pruning.targets(model).items():
        assert (target.value[~masks[n]] == 0).all()
        assert (target.value[masks[n]] != before[n][masks[n]]).any()


def test_masks_survive_deepcopy_and_the_copy_is_independent() -> None:
    model = network()
    pruning.prune(model, 0.5)
    twin = copy.deepcopy(model)
    pruning.prune(twin, 0.9)
    assert pruning.sparsity(model) == pytest.approx(0.5, abs=0.01)
    assert pruning.sparsity(twin) == pytest.approx(0.9, abs=0.01)


def test_masks_survive_save_and_load() -> None:
    model = network()
    masks = pruning.prune(model, 0.6)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = network(seed=5)
    pruning.load_masks(other, state)
    other.load_state_dict(state)
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(model(x), other(x))
    for name, mask in pruning.masks_of(other).items():
        assert torch.equal(mask, masks[name])


@pytest.mark.parametrize("baked", [False, True])
def test_masks_arrive_in_the_graph_as_zeros(baked: bool) -> None:
    model = network()
    pruning.prune(model, 0.8)
    expected = {n: t.value.clone() for n, t in pruning.targets(model).items()}
    if baked:
        pruning.bake(model)
        assert isinstance(model[3].weight, nn.Parameter)
        assert not any("parametrizations" in key for key in model.state_dict())
    graph = pytorch.load(model, torch.zeros(1, 1, 4, 4))
    weights = [graph.tensors[op.inputs[1]].data for op in graph.ops if len(op.inputs) == 3]
    for found, wanted in zip(weights, expected.values(), strict=True):
        assert np.array_equal(found.reshape(-1), wanted.numpy().reshape(-1))


def test_baking_keeps_the_parameter_in_its_optimizer() -> None:
    model = network()
    parameter = model[3].weight
    pruning.prune(model, 0.5)
    pruning.bake(model)
    assert model[3].weight is parameter


def test_dense_gradient_reaches_pruned_weights_and_their_value_is_exactly_zero() -> None:
    layer = nn.Linear(4, 1, bias=False)
    pruning.set_masks(
        layer, {"weight": torch.tensor([[True, False, True, False]])}, dense_gradient=True
    )
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    y = layer(x)
    y.sum().backward()
    original = layer.parametrizations.weight.original
    assert torch.equal(original.grad, x)
    assert layer.weight[0, 1] == 0 and layer.weight[0, 3] == 0


def test_without_dense_gradient_pruned_weights_get_none() -> None:
    layer = nn.Linear(4, 1, bias=False)
    mask = torch.tensor([[True, False, True, False]])
    pruning.set_masks(layer, {"weight": mask})
    layer(torch.ones(1, 4)).sum().backward()
    assert torch.equal(layer.parametrizations.weight.original.grad, mask.float())


def test_an_infinite_original_under_a_mask_stays_harmless() -> None:
    layer = nn.Linear(2, 1, bias=False)
    pruning.set_masks(layer, {"weight": torch.tensor([[True, False]])})
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 1] = float("inf")
    assert layer.weight[0, 1] == 0


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 6, bias=False)
            self.b = nn.Linear(6, 6, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x))

    model = Tied()
    assert list(pruning.targets(model)) == ["a.weight"]
    pruning.prune(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(4, 6)).square().sum().backward()
    optimizer.step()
    assert torch.equal(model.a.weight, model.b.weight)
    assert int((model.b.weight == 0).sum()) == 18
    pruning.bake(model)
    assert model.a.weight is model.b.weight


def test_tied_weights_are_saved_and_loaded() -> None:
    def tied() -> Any:
        model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        model[1].weight = model[0].weight
        return model

    model, fresh = tied(), tied()
    pruning.prune(model, 0.5)
    pruning.load_masks(fresh, model.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert fresh[0].parametrizations.weight[0] is fresh[1].parametrizations.weight[0]
    assert pruning.sparsity(fresh) == 0.5
    torch.testing.assert_close(fresh[1].weight, model[0].weight, rtol=0, atol=0)


def test_errors_name_the_thing() -> None:
    model = network()
    with pytest.raises(InputError, match=r"no weights '9.weight'"):
        pruning.set_masks(model, {"9.weight": torch.ones(1)})
    with pytest.raises(InputError, match=r"'5.weight' has shape \[2\], its weights \[3, 10\]"):
        pruning.set_masks(model, {"5.weight": torch.ones(2)})
    with pytest.raises(InputError, match="'head' matches no parameter"):
        pruning.targets(model, exclude=["head"])
    with pytest.raises(InputError, match="has no weights that were selected"):
        pruning.targets(nn.ReLU())
    with pytest.raises(InputError, match=r"of '3.weight' hold NaN"):
        with torch.no_grad():
            model[3].weight[0, 0] = float("nan")
        pruning.prune(model, 0.5)
