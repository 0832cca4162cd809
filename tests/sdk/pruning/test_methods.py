"""The methods at work, and the registry."""

import copy
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.errors import InputError, UnsupportedError  # noqa: E402
from zeroskip.models import LeNet300  # noqa: E402
from zeroskip.pruning import variational  # noqa: E402


def step(model: Any, optimizer: Any, pruner: Any, x: Any, y: Any) -> float:
    loss = functional.cross_entropy(model(x), y) + pruner.penalty()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pruner.step()
    return float(loss.detach())


def test_gradual_magnitude_follows_the_schedule_and_never_revives() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    schedule = pruning.Cubic(0.9, end=20, every=4)
    pruner = pruning.attach("magnitude", model, schedule=schedule)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = torch.randn(64, 20), torch.randint(0, 5, (64,))
    gone = {n: ~m for n, m in pruning.masks_of(model).items()}
    for i in range(1, 26):
        step(model, optimizer, pruner, x, y)
        zeros = sum(int((~m).sum()) for m in pruning.masks_of(model).values())
        assert zeros == int(schedule.sparsity(i) * 750 + 0.5)
        now = {n: ~m for n, m in pruning.masks_of(model).items()}
        assert all(not (gone[n] & ~now[n]).any() for n in now)
        gone = now
    pruner.finish()
    assert pruning.sparsity(model) == pytest.approx(0.9)


def test_a_schedule_brings_nothing_back_that_was_pruned_before_it() -> None:
    model = nn.Sequential(nn.Linear(20, 20))
    pruning.prune(model, 0.8)
    kept = model[0].weight != 0
    pruner = pruning.attach("magnitude", model, sparsity=0.9, steps=50)
    for _ in range(50):
        assert pruning.sparsity(model) >= 0.8 and not bool((model[0].weight != 0)[~kept].any())
        pruner.step()
    assert pruning.sparsity(model) == 0.9


def test_a_schedule_moves_the_weights_that_stay_for_methods_that_do() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 20) @ torch.randn(20, 20)
    data = pruning.Data.of(x, torch.randint(8, (60,)))
    once = nn.Sequential(nn.Linear(20, 8, bias=False))
    scheduled = copy.deepcopy(once)
    pruning.prune(once, 0.5, "exact-obs", data=data)
    schedule = pruning.OneShot(0.5)
    pruner = pruning.attach("exact-obs", scheduled, schedule=schedule, data=data)
    torch.testing.assert_close(scheduled[0].weight, once[0].weight, rtol=0, atol=0)
    assert not pruner.context.scratch  # type: ignore[attr-defined]


def test_revival_lets_a_pruned_weight_compete_again() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    schedule = pruning.Cubic(0.5, end=32, initial=0.5)
    pruner = pruning.attach("magnitude", layer, schedule=schedule, revive=True)
    assert layer.weight.tolist()[0][:2] == [0, 0]
    assert layer.parametrizations.weight[0].dense_gradient
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 0] = 5.0
    for _ in range(16):
        pruner.step()
    assert layer.weight[0, 0] == 5 and layer.weight[0, 2] == 0
    for _ in range(16):
        pruner.step()
    assert not layer.parametrizations.weight[0].dense_gradient
    with torch.no_grad():  # after the ramp, and at the end, masks stay
        layer.parametrizations.weight.original[0, 1] = 9.0
    for _ in range(16):
        pruner.step()
    pruner.finish()
    assert layer.weight[0, 0] == 5 and layer.weight[0, 1] == 0


def test_relative_magnitude_spares_a_layer_of_small_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    plain, relative = copy.deepcopy(model), copy.deepcopy(model)
    pruning.prune(plain, 0.5)
    pruning.prune(relative, 0.5, "relative-magnitude")
    assert int((plain[0].weight == 0).sum()) > 390
    assert 150 < int((relative[0].weight == 0).sum()) < 250


def test_random_is_seeded() -> None:
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        masks.append(pruning.prune(nn.Linear(30, 30), 0.5, "random", seed=seed)["weight"])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_surgery_prunes_keeps_and_splices_by_its_two_thresholds() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0, 1.0, 1.0, 5.0]])
    # mean 2, deviation sqrt(3); c = 0 puts the threshold at 2: off below 1.8, on above 2.2.
    surgeon = pruning.attach("surgery", layer, stop=5, c=0.0, gamma=0.0)
    original = layer.parametrizations.weight.original
    assert layer.weight.tolist() == [[0, 0, 0, 5]]
    with torch.no_grad():
        original[0] = torch.tensor([2.1, 2.3, 1.0, 1.9])
    surgeon.step()
    # 2.1 stays off and 1.9 stays on: both are between the thresholds.
    assert layer.weight[0].tolist() == pytest.approx([0, 2.3, 0, 1.9])
    assert surgeon.revived == 1
    surgeon.finish()
    layer(torch.ones(1, 4)).sum().backward()
    assert original.grad.tolist() == [[0, 1, 0, 1]]


def test_surgery_stops_when_it_is_told_to() -> None:
    layer = nn.Linear(4, 1, bias=False)
    surgeon = pruning.attach("surgery", layer, stop=1, gamma=0.0)
    surgeon.step()
    with torch.no_grad():
        layer.parametrizations.weight.original[:] = 100.0
    surgeon.step()
    assert (layer.weight == 0).any()


def test_surgery_recovers_a_weight_that_the_data_need() -> None:
    """One input carries the answer and its weight starts pruned: magnitude pruning cannot see
    that, surgery brings it back."""
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    y = (x[:, 0] > 0).long()
    model = nn.Linear(8, 2, bias=False)
    with torch.no_grad():
        model.weight[:] = torch.tensor([0.01] + [0.3] * 7)
    surgeon = pruning.attach("surgery", model, stop=200, c=-1.0, gamma=0.0)
    assert (model.weight[:, 0] == 0).all()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(100):
        step(model, optimizer, surgeon, x, y)
    surgeon.finish()
    assert (model.weight[:, 0] != 0).all()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.95


def test_divergence_is_the_papers_formula_and_its_gradient() -> None:
    log_alpha = torch.linspace(-8, 8, 33, dtype=torch.float64)
    sigmoid = 1 / (1 + torch.exp(-(1.87320 + 1.48695 * log_alpha)))
    negative = 0.63576 * sigmoid - 0.5 * torch.log1p(torch.exp(-log_alpha)) - 0.63576
    assert torch.allclose(variational.divergence(log_alpha), -negative, atol=1e-12)
    theta = torch.randn(40, dtype=torch.float64, requires_grad=True)
    log_sigma2 = (torch.randn(40, dtype=torch.float64) * 5).requires_grad_()
    assert torch.autograd.gradcheck(variational._Divergence.apply, (theta, log_sigma2))


def test_noise_has_the_spread_that_it_says() -> None:
    torch.manual_seed(0)
    for layer, x in (
        (nn.Linear(6, 2), torch.randn(1, 6)),
        (nn.Conv2d(2, 2, 3, padding=1, groups=2), torch.randn(1, 2, 4, 4)),
    ):
        mean = layer(x).detach()
        squared = copy.deepcopy(layer)
        with torch.no_grad():
            squared.weight[:] = 0.25
            squared.bias[:] = 0
            expected = squared(x * x).sqrt()
        pruning.attach("variational", layer, samples=1, log_sigma2=float(np.log(0.25)))
        many = torch.cat([layer(x).detach() for _ in range(4000)])
        assert torch.allclose(many.mean(0), mean[0], atol=0.15)
        assert torch.allclose(many.std(0), expected[0], rtol=0.1)


def test_variational_dropout_reaches_ninety_percent_on_digits() -> None:
    pytest.importorskip("sklearn")
    from zeroskip import datasets

    torch.set_num_threads(1)
    digits = datasets.digits()
    x, test_x = (torch.from_numpy(digits.scaled(s)) for s in (digits.train, digits.test))
    y, test_y = (torch.from_numpy(s.labels) for s in (digits.train, digits.test))
    torch.manual_seed(0)
    model = LeNet300(inputs=64)
    pruner = pruning.attach(
        "variational", model, samples=len(y), warm_up=(150, 600), log_sigma2=-8.0
    )
    noise = pruner.parameters()
    weights = [p for p in model.parameters() if all(p is not q for q in noise)]
    optimizer = torch.optim.Adam(
        [{"params": weights, "lr": 3e-3}, {"params": noise, "lr": 2e-2}], fused=True
    )
    model.train()
    for _ in range(42):
        for rows in torch.randperm(len(y)).split(100):
            step(model, optimizer, pruner, x[rows], y[rows])
    model.eval()
    before = model(test_x).argmax(1)
    zeros = pruning.sparsity(model)
    pruner.finish()
    assert pruning.sparsity(model) == zeros > 0.9
    assert torch.equal(model(test_x).argmax(1), before)
    assert float((before == test_y).float().mean()) > 0.95
    # Nothing but masks is left, and they go on holding.
    assert all("log_sigma2" not in name for name, _ in model.named_parameters())
    model.train()
    assert torch.equal(model(test_x), model(test_x))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("magnitude", {"sparsity": 0.8, "steps": 8}),
        ("surgery", {"stop": 8, "gamma": 0.5}),
        ("variational", {"samples": 64, "warm_up": (2, 6), "log_sigma2": -3.0}),
    ],
)
def test_a_run_goes_on_from_a_checkpoint_as_if_nothing_happened(
    name: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 10), torch.randint(0, 3, (64,))
    fresh = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))

    def begin() -> tuple[Any, Any, Any]:
        model = copy.deepcopy(fresh)
        pruner = pruning.attach(name, model, **options)
        return model, pruner, torch.optim.Adam(model.parameters(), 1e-2)

    def go(model: Any, pruner: Any, optimizer: Any, steps: range) -> None:
        for i in steps:
            torch.manual_seed(i)
            step(model, optimizer, pruner, x, y)

    whole = begin()
    go(*whole, range(12))
    first = begin()
    go(*first, range(5))
    saved = copy.deepcopy([part.state_dict() for part in first])
    second = begin()
    for part, state in zip(second, saved, strict=True):
        part.load_state_dict(state)
    go(*second, range(5, 12))
    for model, pruner, _ in (whole, second):
        pruner.finish()
        model.eval()
    assert torch.equal(whole[0](x), second[0](x))


def test_a_noisy_model_can_be_copied() -> None:
    model = nn.Linear(4, 4)
    pruning.attach("variational", model, samples=1, log_sigma2=0.0)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.parametrizations.weight[0].log_sigma2.fill_(-30.0)
    x = torch.randn(3, 4)
    assert not torch.allclose(model(x), model(x), atol=1e-2)
    assert torch.allclose(twin(x), twin(x), atol=1e-2)


def test_the_registry() -> None:
    assert {"magnitude", "random", "surgery", "variational"} <= set(pruning.method_names())
    for name in pruning.METHODS:
        found = pruning.method(name)
        assert found.name == name and found.summary
    with pytest.raises(InputError, match=r"no pruning method 'best'; there are .*magnitude"):
        pruning.method("best")


def test_an_installed_method_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("theirs", "zeroskip.pruning.magnitude:METHOD", "zeroskip.pruning"),
        EntryPoint("broken", "no_such_module:METHOD", "zeroskip.pruning"),
        EntryPoint("wrong", "zeroskip.pruning.magnitude:magnitude", "zeroskip.pruning"),
    ]
    monkeypatch.setattr(pruning, "entry_points", lambda group: entries)
    assert pruning.method("theirs").scorer is not None
    with pytest.raises(InputError, match="'broken' cannot be loaded"):
        pruning.method("broken")
    with pytest.raises(InputError, match="'wrong' is a function"):
        pruning.method("wrong")


def test_bad_use_is_one_clear_line() -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(InputError, match="needs a schedule, or sparsity and steps"):
        pruning.attach("magnitude", model, sparsity=0.5)
    with pytest.raises(InputError, match="has no option 'speed'"):
        pruning.attach("surgery", model, stop=3, speed=1)
    with pytest.raises(InputError, match=r"surgery': missing 1 required .* 'stop'"):
        pruning.attach("surgery", model)
    with pytest.raises(InputError, match="works while training only"):
        pruning.prune(model, 0.5, "variational")
    with pytest.raises(UnsupportedError, match="does not know ConvTranspose2d 'weight'"):
        pruning.attach("variational", nn.ConvTranspose2d(1, 1, 3), samples=1)
    with pytest.raises(InputError, match="has a mask already"):
        pruning.prune(model, 0.5)
        pruning.attach("variational", model, samples=1)
    with pytest.raises(InputError, match="'weight' are not finite"):
        broken = nn.Linear(2, 2)
        torch.nn.init.constant_(broken.weight, float("nan"))
        pruning.attach("surgery", broken, stop=1)
