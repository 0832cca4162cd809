"""Optimal Brain Damage and Surgeon, and their forms for larger networks."""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.compression import source  # noqa: E402
from zeroskip.errors import InputError  # noqa: E402
from zeroskip.models import ResNet8  # noqa: E402
from zeroskip.pruning import exact_obs, fisher, obd, surgeon  # noqa: E402


def context(model: nn.Module, data: pruning.Data, **more: Any) -> pruning.Context:
    return pruning.Context(model, pruning.targets(model, **more), 0, data)


def values(model: nn.Module) -> dict[str, Any]:
    return {name: target.value.clone() for name, target in pruning.targets(model).items()}


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3),
    ).double()  # fmt: skip
    model(torch.randn(50, 2, 6, 6).double())  # batch-norm statistics of its own
    return model.eval()


def perceptron(activation: Any = nn.ReLU) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3)).double().eval()


def images(*shape: int, count: int = 24) -> pruning.Data:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, *shape, generator=generator).double()
    return pruning.Data.of(x, torch.randint(3, (count,), generator=generator), 8)


def differences(model: nn.Module, data: pruning.Data, target: Any, step: float) -> Any:
    """The second derivative of the mean loss by each weight of a tensor."""
    flat = target.original.data.view(-1)

    def loss() -> Any:
        with torch.no_grad():
            return sum(data.loss(model, batch) for batch in data.batches()) / 3

    result = torch.zeros_like(flat)
    for i in range(len(flat)):
        at = []
        for move in (step, 0.0, -step):
            before = flat[i].clone()
            flat[i] += move
            at.append(loss())
            flat[i] = before
        result[i] = (at[0] - 2 * at[1] + at[2]) / step**2
    return result.view(target.original.shape)


@pytest.mark.parametrize(
    ("make", "shape"), [(perceptron, (6,)), (convolutional, (2, 6, 6))], ids=["mlp", "conv"]
)
def test_the_gauss_newton_diagonal_is_that_of_the_hessian_for_relu(make: Any, shape: Any) -> None:
    model, data = make(), images(*shape)
    found = obd.hessian_diagonal(context(model, data))
    for name, target in pruning.targets(model).items():
        expected = differences(model, data, target, 1e-4)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=2e-6)


def test_the_exact_diagonal_is_that_of_any_network() -> None:
    model, data = perceptron(nn.Tanh), images(6)
    exact = obd.exact_diagonal(context(model, data))
    for name, target in pruning.targets(model).items():
        torch.testing.assert_close(
            exact[name], differences(model, data, target, 1e-4), rtol=1e-4, atol=1e-6
        )
    approximate = obd.hessian_diagonal(context(model, data))
    assert not torch.allclose(approximate["0.weight"], exact["0.weight"])


def test_obd_of_squared_errors() -> None:
    # A linear layer under a mean squared error: h_ij = 2 mean(x_j^2) / outputs.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2)).double()
    x, y = torch.randn(10, 4).double(), torch.randn(10, 2).double()
    data = pruning.Data(lambda: [(x, y)], functional.mse_loss)
    scores = obd.obd(values(model), context(model, data))["0.weight"]
    expected = x.square().mean(0)[None] * model[0].weight.detach().square() / 2
    torch.testing.assert_close(scores, expected)


def test_the_recursive_inverse_is_the_direct_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 30).double()
    recursive = surgeon.recursive_inverse([x[:150], x[150:]], 30, 100, 1e-5)
    direct = torch.linalg.inv(1e-5 * torch.eye(30).double() + x.T @ x / 100)
    torch.testing.assert_close(recursive, direct, rtol=1e-6, atol=1e-12)


def problem(n: int = 12, rows: int = 5) -> tuple[Any, Any]:
    torch.manual_seed(0)
    x = torch.randn(n, 40).double()
    return torch.randn(rows, n).double(), x @ x.T / 40 + 0.01 * torch.eye(n).double()


def test_greedy_removal_costs_what_the_quadratic_loss_rises_by() -> None:
    weights, h = problem()
    losses = surgeon.greedy_losses(weights, torch.linalg.inv(h))
    for row, loss in zip(weights, losses, strict=True):
        order = loss.argsort(stable=True)
        left, total = row.clone(), 0.0
        gone = torch.zeros(len(row), dtype=torch.bool)
        for q in order.tolist():
            alive = ~gone
            # By hand: the cost of each candidate on what is left, the least is q's.
            sub = torch.linalg.inv(h[alive][:, alive])
            costs = left[alive].square() / (2 * sub.diagonal())
            assert int(alive.nonzero().flatten()[costs.argmin()]) == q
            total += float(costs.min())
            gone[q] = True
            left = surgeon.compensated(row, torch.linalg.inv(h), gone)
            change = left - row
            assert float(change @ h @ change / 2) == pytest.approx(total, rel=1e-9)


def test_the_closed_form_update_is_where_greedy_removal_ends() -> None:
    weights, h = problem(rows=1)
    gone = torch.zeros(12, dtype=torch.bool)
    gone[[1, 4, 5, 9]] = True
    inverse, step = torch.linalg.inv(h), weights[0].clone()
    for q in gone.nonzero().flatten().tolist():  # equation 5, one by one
        step -= step[q] / inverse[q, q] * inverse[:, q]
        inverse = inverse - torch.outer(inverse[:, q], inverse[q]) / inverse[q, q]
    closed = surgeon.compensated(weights[0], torch.linalg.inv(h), gone)
    torch.testing.assert_close(step, closed)
    torch.testing.assert_close(surgeon.refitted(weights[0], h, gone), closed)


def everything(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def test_obs_removes_the_right_weight_of_xor_and_magnitude_does_not() -> None:
    # Hassibi and Stork 1993, section 5: networks trained to solve XOR, one weight too many.
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).double()
    y = torch.tensor([[0.0], [1.0], [1.0], [0.0]]).double()
    data = pruning.Data(lambda: [(x, y)], functional.mse_loss)
    solved = {"obs": 0, "magnitude": 0}
    trained = 0
    for seed in range(30):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid()).double()
        optimizer = torch.optim.LBFGS(net.parameters(), max_iter=300, line_search_fn="strong_wolfe")

        def closure(net: Any = net, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            decay = sum(p.square().sum() for p in net.parameters())
            loss = functional.mse_loss(net(x), y) + 1e-5 * decay
            loss.backward()
            return loss

        optimizer.step(closure)
        if not _right(net, x, y):
            continue
        trained += 1
        state = {k: v.clone() for k, v in net.state_dict().items()}
        for name in solved:
            model = nn.Sequential(
                nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid()
            ).double()  # fmt: skip
            model.load_state_dict(state)
            pruning.prune(model, 1 / 9, name, select=everything, data=data)
            solved[name] += _right(model, x, y)
    assert trained >= 8
    assert solved["obs"] == trained
    assert solved["magnitude"] < trained


def _right(net: Any, x: Any, y: Any) -> bool:
    with torch.no_grad():
        return bool(((net(x) > 0.5).double() == y).all())


def test_obs_refuses_large_networks() -> None:
    with pytest.raises(InputError, match=r"at most 4,000 weights.*obs-fisher"):
        pruning.prune(nn.Sequential(nn.Linear(100, 50)), 0.5, "obs", data=images(100))


def test_the_fisher_blocks_are_those_of_the_gradients() -> None:
    model, data = perceptron(), images(6)
    ctx = context(model, data)
    gradients = []
    for x, y in data.batches():
        for i in range(len(y)):
            loss = functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
            gradients.append(torch.autograd.grad(loss, model[0].weight)[0].flatten())  # type: ignore[index]
    stacked = torch.stack(gradients)
    found = list(fisher.block_inverses(ctx, "0.weight", block=20, damping=1e-3))
    assert [place for place, _ in found] == [slice(0, 20), slice(20, 40), slice(40, 48)]
    for place, inverse in found:
        part = stacked[:, place]
        matrix = part.T @ part / len(part) + 1e-3 * torch.eye(part.shape[1]).double()
        torch.testing.assert_close(inverse, torch.linalg.inv(matrix))
    diagonal = fisher.diagonal_fisher(values(model), ctx)["0.weight"].flatten()
    expected = stacked.square().mean(0) * values(model)["0.weight"].flatten().square() / 2
    torch.testing.assert_close(diagonal, expected)


def test_exact_obs_sees_what_the_layers_see() -> None:
    model, data = convolutional(), images(2, 6, 6)
    found = exact_obs.curvatures(context(model, data))
    x = torch.cat([x for x, _ in data.batches()])
    hidden = model[3](model[2](model[1](model[0](x))))  # type: ignore[index]
    # The grouped convolution's outputs by a matrix product must be those of the layer.
    columns = exact_obs._columns("4", model[4], hidden.detach())  # type: ignore[index]
    rows = model[4].weight.detach().view(2, 2, -1)  # type: ignore[index]
    outputs = (rows @ columns).view(4, len(x), -1).movedim(0, 1)
    direct = functional.conv2d(hidden, model[4].weight, None, groups=2).flatten(2)  # type: ignore[index]
    torch.testing.assert_close(outputs, direct)
    h = 2 * columns @ columns.mT / len(x)
    h.diagonal(dim1=1, dim2=2).mul_(1).add_(
        exact_obs.DAMPING * h.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
    )
    torch.testing.assert_close(found["4.weight"][0], h)


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("padding", [(1, 2), "same", 0])
def test_exact_obs_pads_as_the_layer_does(mode: str, padding: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, padding=padding, padding_mode=mode, bias=False)
    x = torch.randn(4, 2, 6, 7)
    columns = exact_obs._columns("0", layer, x).float()
    product = (layer.weight.detach().view(1, 3, -1) @ columns)[0].view(3, 4, -1).movedim(0, 1)
    torch.testing.assert_close(product, layer(x).detach().flatten(2))


def test_inputs_that_are_always_zero_cost_nothing() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 6)
    x[:, [1, 4]] = 0
    model = nn.Sequential(nn.Linear(6, 3))
    data = pruning.Data.of(x, torch.zeros(50, dtype=torch.long))
    h, dead = exact_obs.curvatures(context(model, data))["0.weight"]
    assert dead[0].tolist() == [False, True, False, False, True, False]
    assert h[0, 1, 1] == h[0, 4, 4] == 1.0 and float(h[0, 1].abs().sum()) == 1.0
    before = model(x).detach()
    masks = pruning.prune(model, 1 / 3, "exact-obs", data=data)  # as many as are dead
    assert not bool(masks["0.weight"][:, [1, 4]].any())
    torch.testing.assert_close(model(x).detach(), before)


def test_exported_programs_have_derivatives_by_sample_but_no_layers() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    module = source.ExportedModule(torch.export.export(plain, (torch.zeros(1, 6),)))
    names = {n: f"program.{n}" for n in ("0.weight", "2.weight")}
    generator = torch.Generator().manual_seed(0)
    data = pruning.Data.of(torch.randn(20, 6, generator=generator), torch.arange(20) % 3, 10)
    for name in ("obd", "obs", "obs-fisher", "fisher-diagonal"):
        found, expected = copy.deepcopy(module), copy.deepcopy(plain)
        masks = pruning.prune(found, 0.5, name, data=data, select=lambda n, m: "weight" in n)
        same = pruning.prune(expected, 0.5, name, data=data)
        assert all(torch.equal(masks[names[n]], mask) for n, mask in same.items()), name
    with pytest.raises(InputError, match="prune the module, or use obs-fisher"):
        pruning.prune(module, 0.5, "exact-obs", data=data, select=lambda n, m: "weight" in n)


def test_exact_obs_loses_less_output_than_magnitude() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 12) @ torch.randn(12, 20)  # correlated inputs, as activations are
    data = pruning.Data.of(x, torch.zeros(200, dtype=torch.long), 50)
    wrong = {}
    for name in ("exact-obs", "magnitude"):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(20, 8))
        before = model(x).detach()
        pruning.prune(model, 0.5, name, data=data)
        wrong[name] = float((model(x).detach() - before).square().mean())
    assert wrong["exact-obs"] < 0.2 * wrong["magnitude"]


@pytest.mark.parametrize("name", ["obd", "obs", "obs-fisher", "fisher-diagonal", "exact-obs"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_counts_are_exact_and_the_rest_of_the_model_stays(name: str, iterations: int) -> None:
    model, data = convolutional(), images(2, 6, 6)
    statistics = model[1].running_mean.clone()  # type: ignore[index]
    before = values(model)
    masks = pruning.prune(model, 0.6, name, data=data, iterations=iterations)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~m).sum()) for m in masks.values()) == int(0.6 * total + 0.5)
    moved = any(not torch.equal(v[masks[n]], before[n][masks[n]]) for n, v in values(model).items())
    assert moved == (name in ("obs", "obs-fisher", "exact-obs"))
    assert torch.equal(model[1].running_mean, statistics)  # type: ignore[index]
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_they_work_on_a_residual_network() -> None:
    torch.manual_seed(0)
    model = ResNet8(classes=3).eval()
    data = pruning.Data.of(torch.randn(6, 3, 32, 32), torch.arange(6) % 3, 6)
    for sparsity, name in ((0.2, "obd"), (0.4, "fisher-diagonal")):
        pruning.prune(model, sparsity, name, data=data)
    assert pruning.sparsity(model) == pytest.approx(0.4, abs=1e-4)
