"""SNIP, GraSP, SynFlow and the first-order scores, against what their papers say."""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.errors import InputError  # noqa: E402
from zeroskip.models import LeNet300, ResNet8  # noqa: E402
from zeroskip.pruning import capacity, grasp, synflow, taylor  # noqa: E402

WEIGHTS = 266_200  # of LeNet-300-100, in 3 layers


def context(model: nn.Module, data: Any = None, example: Any = None) -> pruning.Context:
    return pruning.Context(model, pruning.targets(model), 0, data, example)


def values(model: nn.Module) -> dict[str, Any]:
    return {name: target.value for name, target in pruning.targets(model).items()}


def some_data(shape: tuple[int, ...], count: int = 40, dtype: Any = None) -> pruning.Data:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, *shape, generator=generator).to(dtype or torch.float32)
    return pruning.Data.of(x, torch.randint(10, (count,), generator=generator), 16)


def small(dtype: Any = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 10)
    ).to(dtype or torch.float64)  # fmt: skip


def test_snip_is_the_derivative_by_the_connections() -> None:
    # Equation 5: the derivative of the loss by c at c = 1, with weights c * w. It is that of all
    # samples, whatever the batches (here 16, 16 and 8), in units of the first one.
    model, data = small(), some_data((12,), dtype=torch.float64)
    weights = values(model)
    connections = {name: torch.ones_like(w, requires_grad=True) for name, w in weights.items()}
    state = {**dict(model.named_parameters())}
    state.update({name: connections[name] * weights[name] for name in weights})
    x, y = (torch.cat(parts) for parts in zip(*data.batches(), strict=True))
    outputs = torch.func.functional_call(model, state, (x,))
    loss = functional.cross_entropy(outputs, y, reduction="sum") / 16
    expected = torch.autograd.grad(loss, list(connections.values()))
    scores = taylor.snip(weights, context(model, data))
    for score, derivative in zip(scores.values(), expected, strict=True):
        torch.testing.assert_close(score, derivative.abs())


def test_the_taylor_score_squares_each_mini_batch() -> None:
    model, data = small(), some_data((12,), dtype=torch.float64)
    weights = values(model)
    score = taylor.taylor(weights, context(model, data))["2.weight"]
    expected = torch.zeros_like(score)
    for x, y in data.batches():
        for part in range(0, len(y), taylor.MINIBATCH):
            rows = slice(part, part + taylor.MINIBATCH)
            model.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            expected += (model[2].weight.grad * model[2].weight.detach()).square()
    torch.testing.assert_close(score, expected)
    sums = taylor.gradient_magnitude(weights, context(model, data))["2.weight"]
    assert (sums.square() != score).any()  # the batches' gradients do cancel


def test_the_hessian_gradient_product_is_that_of_the_whole_hessian() -> None:
    # One layer, so that the Hessian by all weights is small; the biases are no targets.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 10)).double()
    x, y = torch.randn(30, 5).double(), torch.randint(10, (30,))
    data = pruning.Data.of(x, y, 30)
    names = ["0.weight", "2.weight"]
    biases = {"0.bias": model[0].bias.detach(), "2.bias": model[2].bias.detach()}

    def loss(*weights: Any) -> Any:
        state = dict(zip(names, weights, strict=True)) | biases
        outputs = torch.func.functional_call(model, state, (x,)) / grasp.TEMPERATURE
        return functional.cross_entropy(outputs, y)

    inputs = tuple(values(model).values())
    blocks = torch.autograd.functional.hessian(loss, inputs)
    sizes = [v.numel() for v in inputs]
    hessian = torch.cat(
        [torch.cat([b.reshape(sizes[i], sizes[j]) for j, b in enumerate(row)], 1)
         for i, row in enumerate(blocks)]
    )  # fmt: skip
    gradient = torch.cat([g.flatten() for g in torch.func.grad(loss, (0, 1))(*inputs)])
    found = grasp.hessian_gradient(context(model, data))
    flat = torch.cat([found[name].flatten() for name in names])
    torch.testing.assert_close(flat, hessian @ gradient, rtol=1e-9, atol=1e-16)


def test_grasp_removes_the_weights_of_the_highest_official_score() -> None:
    model, data = small(torch.float32), some_data((12,))
    product = grasp.hessian_gradient(context(model, data))
    official = torch.cat([(-w * product[n]).flatten() for n, w in values(model).items()])
    masks = pruning.prune(model, 0.3, "grasp", data=data)
    gone = torch.cat([~m.flatten() for m in masks.values()])
    assert official[gone].min() >= official[~gone].max()
    inverted = pruning.prune(small(torch.float32), 0.7, "grasp", data=data, invert=True)
    kept = torch.cat([m.flatten() for m in inverted.values()])
    assert bool((kept == gone).all())


def test_scorers_leave_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model, data = ResNet8(), some_data((3, 32, 32), 8)
    model.train()
    before = copy.deepcopy(model.state_dict())
    for name in ("snip", "grasp", "gradient-magnitude", "taylor", "synflow"):
        pruning.method(name).scorer(values(model), context(model, data))  # type: ignore[misc]
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_synaptic_flow_is_conserved_by_neurons_and_by_the_network() -> None:
    # Tanaka et al. 2020, theorems 1 and 2, with ReLU in between.
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 15), nn.ReLU(), nn.Linear(15, 10)
    ).double()
    pruning.prune(model, 0.5, "random")
    scores = synflow.synflow(values(model), context(model, None, torch.zeros(1, 20)))
    first, second, third = scores.values()
    torch.testing.assert_close(first.sum(1), second.sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(second.sum(1), third.sum(0), rtol=1e-6, atol=0)
    total = synflow.total_flow(model, torch.zeros(1, 20))
    for score in scores.values():
        assert float(score.sum()) == pytest.approx(total, rel=1e-6)


def test_synaptic_flow_is_conserved_through_convolutions_and_batch_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10),
    )  # fmt: skip
    scores = synflow.synflow(values(model), context(model, None, torch.zeros(1, 3, 16, 16)))
    sums = [float(score.sum()) for score in scores.values()]
    assert sums[1] == pytest.approx(sums[0], rel=1e-6)
    assert sums[2] == pytest.approx(sums[0], rel=1e-6)


def test_masks_on_biases_change_nothing_of_the_flow() -> None:
    model, example = small(), torch.zeros(1, 12)
    before = synflow.total_flow(model, example)
    pruning.set_masks(model, {"0.bias": torch.ones(9)}, lambda name, module: True)
    assert synflow.total_flow(model, example) == before


def test_frozen_weights_are_one_clear_line() -> None:
    for name in ("synflow", "snip"):
        model = small(torch.float32)
        model[0].weight.requires_grad_(False)  # type: ignore[index]
        with pytest.raises(InputError, match="cannot be differentiated by its weights") as caught:
            pruning.prune(model, 0.5, name, data=some_data((12,)))
        assert "\n" not in str(caught.value)


def test_synflow_reaches_the_maximum_compression_and_one_shot_methods_collapse() -> None:
    torch.manual_seed(0)
    model, data = LeNet300(), some_data((1, 28, 28), 100)
    assert capacity.maximum_compression(model) == pytest.approx(WEIGHTS / 3)
    for name in ("snip", "grasp", "magnitude"):
        reached = capacity.critical_compression(model, name, data=data)
        assert 1 < reached < WEIGHTS / 10, name
    masks = pruning.prune(model, 1 - 3 / WEIGHTS, "synflow", data=data)
    assert [int(mask.sum()) for mask in masks.values()] == [1, 1, 1]
    assert synflow.total_flow(model, torch.zeros(1, 1, 28, 28)) > 0  # the three make a path


def test_biases_in_the_flow_make_synflow_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in the official code; why this one leaves them out.
    monkeypatch.setattr(synflow, "_SHIFTS", ())
    torch.manual_seed(0)
    masks = pruning.prune(LeNet300(), 1 - 3 / WEIGHTS, "synflow", example=torch.zeros(1, 784))
    assert capacity.collapsed(masks)


def test_critical_compression_is_the_last_before_the_collapse() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 2))
    left = round(120 / capacity.critical_compression(model, "magnitude"))
    for count, empty in ((left, False), (left - 1, True)):
        masks = pruning.prune(copy.deepcopy(model), 1 - count / 120, "magnitude")
        assert bool(capacity.collapsed(masks)) == empty
    assert capacity.critical_compression(model, "magnitude", scope="layerwise") == 30
    with pytest.raises(InputError, match="scope 2:4 has one compression only"):
        capacity.critical_compression(model, "magnitude", scope="2:4")
    whole = capacity.critical_compression(model, "magnitude")
    pruning.prune(model, 0.5)
    assert capacity.critical_compression(model, "magnitude") == whole


@pytest.mark.parametrize(
    "name",
    ["random", "magnitude", "snip", "snip-iterative", "grasp", "grasp-magnitude", "synflow",
     "gradient-magnitude", "taylor"],
)  # fmt: skip
def test_masks_have_exactly_the_requested_count(name: str) -> None:
    for sparsity in (0.333, 0.9):
        model = small(torch.float32)
        masks = pruning.prune(model, sparsity, name, data=some_data((12,)))
        total = sum(mask.numel() for mask in masks.values())
        zeros = sum(int((~mask).sum()) for mask in masks.values())
        assert zeros == int(sparsity * total + 0.5)
        assert pruning.sparsity(model) == zeros / total


def test_iterations_never_bring_a_weight_back() -> None:
    model, data = small(torch.float32), some_data((12,))
    first = pruning.prune(model, 0.5, "snip", data=data)
    second = pruning.prune(model, 0.8, "snip", data=data, iterations=5)
    assert all(bool((second[n] <= first[n]).all()) for n in first)
    grouped = pruning.prune(model, 0.5, "magnitude", scope="2:4")
    assert all(bool((grouped[n] <= second[n]).all()) for n in first)
    with pytest.raises(InputError, match="pruned already, more than the sparsity asks for"):
        pruning.prune(model, 0.3, "magnitude")


def test_missing_data_and_shapes_are_one_clear_line() -> None:
    with pytest.raises(InputError, match="'snip' needs data"):
        pruning.prune(small(), 0.5, "snip")
    with pytest.raises(InputError, match="'synflow' needs an input's shape"):
        pruning.prune(small(), 0.5, "synflow")
    with pytest.raises(InputError, match="hold no batch"):
        pruning.prune(small(), 0.5, "snip", data=pruning.Data(lambda: []))
    with pytest.raises(InputError, match="iterations 0"):
        pruning.prune(small(), 0.5, iterations=0)
