"""Weight sharing: the clustering, the trained codebook, bits per layer."""

import copy
import io
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import zeroskip  # noqa: E402
from zeroskip import pruning, sharing  # noqa: E402
from zeroskip.converters.frontends import pytorch  # noqa: E402
from zeroskip.errors import InputError, MissingToolError  # noqa: E402

HEURISTICS = ("linear", "density", "forgy")


def network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 20), nn.ReLU(),
        nn.Linear(20, 5),
    )  # fmt: skip


def values_of(model: Any, name: str) -> Any:
    return pruning.targets(model)[name].value.numpy()


def brute_force(values: Any, k: int) -> float:
    """The least inertia of sorted values over all ways to cut them into k intervals."""
    from itertools import combinations

    ordered = np.sort(values)
    best = np.inf
    for cuts in combinations(range(1, len(ordered)), k - 1):
        parts = np.split(ordered, cuts)
        best = min(best, sum(float(np.square(p - p.mean()).sum()) for p in parts))
    return best


@pytest.mark.tool("kmeans1d")
@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=9), k=st.integers(1, 4))
def test_optimal_is_the_optimum(values: list[float], k: int) -> None:
    found = sharing.cluster(values, k, "optimal")
    k = min(k, len(values))
    assert found.inertia == pytest.approx(brute_force(np.array(values), k), abs=1e-6)


@pytest.mark.tool("kmeans1d")
@pytest.mark.parametrize("k", [2, 3, 8, 31, 64])
def test_no_other_start_beats_the_optimum(k: int) -> None:
    values = np.random.default_rng(k).laplace(size=3000)
    values = values[np.abs(values) > 0.5]  # bimodal, as after pruning
    best = sharing.cluster(values, k, "optimal").inertia
    for init in HEURISTICS:
        found = sharing.cluster(values, k, init)
        assert len(found.centroids) == k
        assert best <= found.inertia * (1 + 1e-9)
        assert found.inertia < values.var() * len(values)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    k=st.integers(1, 20),
    init=st.sampled_from(HEURISTICS),
)
def test_a_clustering_is_consistent(values: list[float], k: int, init: str) -> None:
    found = sharing.cluster(values, k, init)
    data = np.array(values)
    assert len(found.centroids) <= k
    assert (np.diff(found.centroids) > 0).all()
    assert set(found.labels.tolist()) == set(range(len(found.centroids)))
    nearest = np.abs(data[:, None] - found.centroids).min(axis=1)
    assert np.allclose(np.abs(data - found.centroids[found.labels]), nearest)
    assert found.inertia == pytest.approx(float(np.square(nearest).sum()))


def test_lloyd_agrees_with_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    values = np.random.default_rng(0).laplace(size=500)
    start = np.linspace(values.min(), values.max(), 6)
    theirs = cluster.KMeans(6, init=start[:, None], n_init=1, tol=0, algorithm="lloyd")
    theirs.fit(values[:, None])
    ours = sharing.cluster(values, 6, "linear")
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-6)


def test_forgy_is_seeded_and_linear_spans_the_extremes() -> None:
    values = np.random.default_rng(0).normal(size=400)
    seeds = [sharing.cluster(values, 9, "forgy", s).inertia for s in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]
    two = sharing.cluster([0.0, 0.1, 0.9, 1.0], 2, "linear")
    assert two.centroids.tolist() == pytest.approx([0.05, 0.95])


def test_zero_stays_zero_and_costs_no_centroid() -> None:
    model = network()
    pruning.prune(model, 0.7)
    zeros = {n: values_of(model, n) == 0 for n in pruning.targets(model)}
    report = sharing.share(model, 8)
    optimizer = torch.optim.Adam(sharing.codebooks(model), 1e-2)
    for _ in range(4):
        model(torch.randn(8, 1, 4, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    for layer in report:
        weights = values_of(model, layer.name)
        assert (weights[zeros[layer.name]] == 0).all()
        assert layer.centroids == 8 == len(np.unique(weights[~zeros[layer.name]]))
        assert layer.nonzero == int((~zeros[layer.name]).sum())
        assert layer.bits == 3


def test_a_centroids_gradient_is_the_sum_over_its_cluster() -> None:
    layer = nn.Linear(12, 9)
    pruning.prune(layer, 0.5)
    sharing.share(layer, 4)
    ((codebook, shared),) = sharing.shared_weights(layer).values()
    x = torch.randn(7, 12)
    layer(x).square().sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    nn.functional.linear(x, weight, layer.bias.detach()).square().sum().backward()
    for i in range(4):
        expected = weight.grad[shared.codes == i + 1].sum()
        assert codebook.grad[i] == pytest.approx(float(expected), rel=1e-4)


def test_training_moves_centroids_and_keeps_assignments() -> None:
    model = network()
    sharing.share(model, 5)
    before = {n: s.codes.clone() for n, (_, s) in sharing.shared_weights(model).items()}
    books = [b.detach().clone() for b in sharing.codebooks(model)]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(3):
        model(torch.randn(8, 1, 4, 4)).square().sum().backward()
        optimizer.step()
    for name, (codebook, shared) in sharing.shared_weights(model).items():
        assert torch.equal(shared.codes, before[name])
        assert len(np.unique(values_of(model, name))) == 5
        assert codebook.requires_grad
    assert all(not torch.equal(a, b) for a, b in zip(books, sharing.codebooks(model), strict=True))


def test_per_channel_has_a_codebook_for_each_live_channel() -> None:
    layer = nn.Conv2d(3, 5, 3)
    with torch.no_grad():
        layer.weight[2] = 0
    (report,) = sharing.share(layer, 4, per_channel=True)
    assert (report.codebooks, report.centroids) == (4, 4)
    weight = layer.weight.detach()
    for i in range(5):
        assert len(weight[i].unique()) == (1 if i == 2 else 4)
    assert (weight[2] == 0).all()
    transposed = nn.ConvTranspose2d(4, 2, 3)
    sharing.share(transposed, 3, per_channel=True)
    assert [len(transposed.weight[:, i].unique()) for i in range(2)] == [3, 3]


@pytest.mark.parametrize("masked_afterwards", [False, True])
def test_sharing_survives_save_load_and_deepcopy(masked_afterwards: bool) -> None:
    model = network()
    pruning.prune(model, 0.5)
    sharing.share(model, {"0": 4, "3": 6, "5.weight": 3})
    if masked_afterwards:
        pruning.prune(model, 0.8)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = network(seed=3)
    sharing.load_shared(other, torch.load(file, weights_only=True))
    twin = copy.deepcopy(model)
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(model(x), other(x)) and torch.equal(model(x), twin(x))
    with torch.no_grad():
        sharing.codebooks(twin)[0].mul_(2)
    assert not torch.equal(model(x), twin(x))
    assert pruning.sparsity(other) == pytest.approx(0.8 if masked_afterwards else 0.5, abs=0.01)


def test_a_mask_on_top_of_shared_weights_filters_the_gradient() -> None:
    layer = nn.Linear(10, 10)
    sharing.share(layer, 4)
    shared = sharing.shared_weights(layer)["weight"][1].codes
    masks = pruning.prune(layer, 0.6)
    layer(torch.ones(1, 10)).sum().backward()
    codebook = sharing.codebooks(layer)[0]
    counts = [int(((shared == i + 1) & masks["weight"]).sum()) for i in range(4)]
    assert codebook.grad.tolist() == counts


def test_other_parametrizations_are_shared_as_they_compute() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    before = layer.weight.detach().clone()
    (report,) = sharing.share(layer, 32)
    assert report.centroids == 32
    assert torch.allclose(layer.weight, before, atol=0.05)
    assert list(sharing.shared_weights(layer)) == ["weight"]


def test_the_graph_and_the_container_have_exactly_the_centroids() -> None:
    model = network()
    pruning.prune(model, 0.6)
    sharing.share(model, 7)
    graph = pytorch.load(model, torch.zeros(1, 1, 4, 4))
    weights = [graph.tensors[op.inputs[1]].data for op in graph.ops if len(op.inputs) == 3]
    for weight, codebook in zip(weights, sharing.codebooks(model), strict=True):
        assert weight is not None
        assert np.array_equal(np.unique(weight[weight != 0]), np.sort(codebook.detach().numpy()))
    x = torch.randn(200, 1, 4, 4)
    blob = zeroskip.convert(model, calibration=x.numpy())
    baked = copy.deepcopy(model)
    sharing.bake(baked)
    assert zeroskip.convert(baked, calibration=x.numpy()) == blob
    plain = network()
    pruning.prune(plain, 0.6)
    assert len(blob) < len(zeroskip.convert(plain, calibration=x.numpy()))


def test_baking_leaves_plain_parameters() -> None:
    model = network()
    sharing.share(model, 7)
    with torch.no_grad():
        expected = [t.value for t in pruning.targets(model).values()]
        sharing.bake(model)
    assert set(model.state_dict()) == set(network().state_dict())
    for parameter, value in zip((model[0], model[3], model[5]), expected, strict=True):
        assert isinstance(parameter.weight, nn.Parameter) and parameter.weight.requires_grad
        assert torch.equal(parameter.weight, value)


def test_frozen_weights_stay_frozen() -> None:
    layer = nn.Linear(6, 6)
    layer.weight.requires_grad_(False)
    sharing.share(layer, 3)
    assert not sharing.codebooks(layer)[0].requires_grad
    sharing.bake(layer)
    assert isinstance(layer.weight, nn.Parameter) and not layer.weight.requires_grad


def test_tied_weights_share_one_codebook() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x))

    model = Tied()
    pruning.prune(model, 0.5)
    assert len(sharing.share(model, 4)) == 1
    assert len(sharing.codebooks(model)) == 1
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(4, 6)).square().sum().backward()
    optimizer.step()
    assert torch.equal(model.a.weight, model.b.weight)
    sharing.bake(model)
    assert model.a.weight is model.b.weight


def test_assigning_a_weight_sets_the_centroids_to_cluster_means() -> None:
    layer = nn.Linear(6, 6)
    sharing.share(layer, 3)
    doubled = layer.weight.detach() * 2
    layer.weight = doubled
    assert torch.allclose(layer.weight, doubled)


def test_fewer_distinct_weights_than_centroids_are_kept_and_reported() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([0.0, 1.0, -2.0, 1.0])
    before = layer.weight.detach().clone()
    (report,) = sharing.share(layer, 16)
    assert (report.requested, report.centroids, report.error) == (16, 2, 0.0)
    assert torch.equal(layer.weight, before)


def test_an_all_zero_layer_and_a_layer_with_one_weight() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[1].weight[:] = torch.tensor([0.0, 5.0, 0.0])
    zero, one, single = sharing.share(model, 4)
    assert (zero.centroids, zero.codebooks, zero.bits) == (0, 0, 0)
    assert (one.centroids, one.bits, one.nonzero) == (1, 0, 1)
    assert single.centroids == 1
    assert list(sharing.shared_weights(model)) == ["1.weight", "2.weight"]
    assert model[1].weight.tolist() == [[0, 5, 0]]
    model(torch.ones(2, 3)).sum().backward()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_change_nothing(bad: float) -> None:
    model = network()
    with torch.no_grad():
        model[5].weight[0, 0] = bad
    with pytest.raises(InputError, match=r"'5.weight' hold NaN or infinity"):
        sharing.share(model, 4)
    assert not sharing.shared_weights(model)


def test_bad_arguments_are_one_clear_line() -> None:
    model = network()
    for count in (0, 1, 257):
        with pytest.raises(InputError, match=f"{count} centroids are not in 2..256"):
            sharing.share(model, count)
    with pytest.raises(InputError, match=r"no weights 'head'; there are 0.weight, 3.weight"):
        sharing.share(model, {"head": 4})
    with pytest.raises(InputError, match="init 'best' must be one of linear, density"):
        sharing.share(model, 4, init="best")
    with pytest.raises(InputError, match="at least one value"):
        sharing.cluster([], 2)
    state = network().state_dict()
    other = nn.Linear(2, 2)
    with pytest.raises(InputError, match="does not fit Linear"):
        sharing.load_shared(other, state)
    sharing.share(other, 2)
    with pytest.raises(InputError, match=r"'weight' has shape \[2, 2\], the model's \[3, 3\]"):
        sharing.load_shared(nn.Linear(3, 3), other.state_dict())
    with pytest.raises(InputError, match="a mask 'weight', not the model"):
        sharing.load_shared(nn.Sequential(nn.Linear(2, 2)), other.state_dict())
    masked = nn.Linear(2, 2)
    pruning.prune(masked, 0.5)
    with pytest.raises(InputError, match="'weight' has parametrizations already"):
        sharing.load_shared(masked, other.state_dict())


def test_the_optimum_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kmeans1d", None)
    with pytest.raises(MissingToolError, match=r"zeroskip\[sharing\]"):
        sharing.cluster([1.0, 2.0, 3.0], 2, "optimal")


@pytest.mark.tool("kmeans1d")
def test_the_optimum_of_too_many_is_refused_before_it_eats_the_memory() -> None:
    with pytest.raises(InputError, match="takes more than"):
        sharing.cluster(np.arange(1 << 19), 256, "optimal")


def test_bits_follow_the_accuracy_budget() -> None:
    """The first layer's output decides; the second is scaled down to hardly count."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    x = torch.randn(200, 16)
    with torch.no_grad():
        wanted = model(x)

    def evaluate(trial: Any) -> float:
        with torch.no_grad():
            return -float((trial(x) - wanted).square().mean())

    plans = [sharing.choose_bits(model, evaluate, loss) for loss in (1e-4, 1e-3, 1e-1)]
    assert not sharing.shared_weights(model)
    for plan, loss in zip(plans, (1e-4, 1e-3, 1e-1), strict=True):
        assert plan.baseline == 0 and -loss <= plan.expected
        trial = copy.deepcopy(model)
        sharing.share(trial, plan.centroids)
        assert evaluate(trial) == plan.expected
        # No tensor can go one bit lower alone.
        for name, bits in plan.bits.items():
            if bits > 1:
                lower = copy.deepcopy(model)
                sharing.share(lower, {**plan.centroids, name: 1 << (bits - 1)})
                assert evaluate(lower) < -loss
    assert plans[0].index_bits > plans[1].index_bits > plans[2].index_bits
    with pytest.raises(InputError, match=r"2 bits everywhere lose .* allow more bits"):
        sharing.choose_bits(model, evaluate, 1e-6, bits=(1, 2))
    with pytest.raises(InputError, match=r"must be some of 1..8"):
        sharing.choose_bits(model, evaluate, 0.1, bits=(0, 9))
