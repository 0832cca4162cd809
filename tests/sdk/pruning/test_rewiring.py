"""Methods that prune during training: SET, DSR, Deep R, gradual magnitude, surgery."""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.compression.samples import Samples  # noqa: E402
from zeroskip.compression.training import Fit, accuracy, train_steps  # noqa: E402
from zeroskip.errors import InputError  # noqa: E402
from zeroskip.pruning import rewiring  # noqa: E402

METHODS = ("set", "dsr", "deep-r", "gradual", "surgery")
REWIRERS = ("set", "dsr", "deep-r")
SPARSITY = 0.9


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(),
                         nn.Linear(30, 3))  # fmt: skip


def problem(count: int = 600) -> Samples:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 20, generator=generator)
    return Samples(x, (x[:, :3] + 0.2 * x[:, 3:6]).argmax(1))


def zeros(model: nn.Module) -> int:
    return sum(int((~mask).sum()) for mask in pruning.masks_of(model).values())


def counts(model: nn.Module) -> list[int]:
    return [int(mask.sum()) for mask in pruning.masks_of(model).values()]


TOTAL = 20 * 60 + 60 * 30 + 30 * 3
WANTED = round(SPARSITY * TOTAL)


class Watched:
    """A pruner that looks at the masks after each of its steps."""

    def __init__(self, pruner: Any, look: Any) -> None:
        self.pruner, self.look = pruner, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pruner, name)

    def step(self) -> None:
        self.pruner.step()
        self.look()


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_and_ends_at_exactly_the_requested_count(name: str) -> None:
    samples, model, fit = problem(), network(), Fit(30, 1e-2, batch=50)
    pruner = pruning.attach(name, model, sparsity=SPARSITY, steps=270)
    late: list[dict[str, Any]] = []

    def look() -> None:
        if name in REWIRERS:
            assert zeros(model) == WANTED
        if len(late) < 360:
            late.append(pruning.masks_of(model))

    train_steps(model, samples, fit, 0, pruner=Watched(pruner, look))
    pruner.finish()
    assert zeros(model) == WANTED
    final = pruning.masks_of(model)
    for masks in late[270:]:  # final after `steps`
        assert all(torch.equal(masks[n], final[n]) for n in final)
    assert accuracy(model.eval(), samples) > 0.8
    state = model.state_dict()
    loaded = network(1)
    pruning.load_masks(loaded, state)
    loaded.load_state_dict(state)
    assert zeros(loaded) == WANTED
    program = torch.export.export(model, (samples.values[:1],))
    torch.testing.assert_close(program.module()(samples.values[:1]), model(samples.values[:1]))


@pytest.mark.parametrize("name", REWIRERS)
def test_connections_move(name: str) -> None:
    samples, model = problem(), network()
    pruner: Any = pruning.attach(name, model, sparsity=SPARSITY, steps=200)
    first, start = pruning.masks_of(model), counts(model)
    train_steps(model, samples, Fit(10, 1e-2, batch=50), 0, pruner=pruner)
    moved = sum(int((first[n] & ~m).sum()) for n, m in pruning.masks_of(model).items())
    assert moved > 0 and pruner.moved >= moved
    if name == "set":
        assert counts(model) == start
    if name == "dsr":
        assert counts(model) != start  # connections went to other layers


@pytest.mark.parametrize("name", METHODS)
def test_convolutions_in_channels_last_order(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(),
                          nn.Linear(32, 3))  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(60, 3, 6, 6, generator=generator)
    samples = Samples(images, torch.randint(3, (60,), generator=generator))
    pruner = pruning.attach(name, model, sparsity=0.8, steps=9)
    train_steps(model, samples, Fit(4, 1e-2, batch=20), 0, pruner=pruner)  # sets the order
    pruner.finish()
    assert zeros(model) == round(0.8 * (216 + 576 + 96))


def test_set_replaces_the_weights_nearest_to_zero_of_either_sign() -> None:
    model = nn.Sequential(nn.Linear(20, 50), nn.Linear(50, 2))
    pruner = pruning.attach("set", model, sparsity=0.8, stop=1, every=1, zeta=0.25)
    target = pruning.targets(model)["0.weight"]
    before, mask = target.value.clone(), pruning.masks_of(model)["0.weight"]
    pruner.step()
    after = pruning.masks_of(model)["0.weight"]
    gone, came = mask & ~after, after & ~mask
    assert int(came.sum()) == int(gone.sum()) > 0
    assert bool((target.value[came] == 0).all())
    for sign in (1, -1):
        side = mask & (sign * before > 0)
        left = before[side & ~gone].abs()
        assert int((side & gone).sum()) == int(0.25 * int(side.sum()))
        assert before[side & gone].abs().max() <= left.min()


def test_dsr_doubles_and_halves_its_threshold() -> None:
    model = network()
    pruner: Any = pruning.attach("dsr", model, sparsity=0.5, stop=9, every=1, threshold=1e-9)
    pruner.step()
    assert pruner.threshold == 2e-9  # nothing went
    pruner.threshold = 1e9
    pruner.step()
    assert pruner.threshold == 5e8 and zeros(model) == round(0.5 * TOTAL)


def test_deep_r_keeps_the_sign_of_a_connection() -> None:
    samples, model = problem(), network()
    pruner: Any = pruning.attach("deep-r", model, sparsity=SPARSITY, steps=150, rate=1e-2)
    seen: dict[str, Any] = {}

    def look() -> None:
        for name, target in pruning.targets(model).items():
            assert bool((target.value * pruner.signs[name] >= 0).all())
            mask = pruning.masks_of(model)[name]
            if name in seen:
                stayed = mask & seen[name][0]
                changed = seen[name][1] != pruner.signs[name]
                # Only a connection that was cut and grown in one step may change its sign.
                assert bool((target.value[stayed & changed] == 0).all())
            seen[name] = (mask, pruner.signs[name].clone())

    train_steps(model, samples, Fit(10, 1e-2, batch=50), 0, stop=100, pruner=Watched(pruner, look))


def test_deep_r_noise_and_drift() -> None:
    model = nn.Sequential(nn.Linear(100, 200))
    pruner: Any = pruning.attach(
        "deep-r", model, sparsity=0.5, stop=1, alpha=0.1, rate=0.1, temperature=2e-6
    )
    with torch.no_grad():
        pruning.targets(model)["0.weight"].original.copy_(pruner.signs["0.weight"] * 0.5)
    mask = pruning.masks_of(model)["0.weight"]
    pruner.step()
    size = pruning.targets(model)["0.weight"].value.abs()[mask]
    assert float(size.mean()) == pytest.approx(0.49, abs=1e-4)
    assert float(size.std()) == pytest.approx((2 * 0.1 * 2e-6) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_goes_on_as_if_nothing_had_happened(name: str) -> None:
    samples, fit = problem(100), Fit(4, 1e-2, "sgd", batch=10)

    def half(model: nn.Module, pruner: Any, start: int) -> None:
        train_steps(model, samples, fit, start, start=start, stop=start + 20, pruner=pruner)

    model = network()
    pruner = pruning.attach(name, model, sparsity=0.8, steps=35)
    half(model, pruner, 0)
    state, saved = copy.deepcopy(model.state_dict()), copy.deepcopy(pruner.state_dict())
    half(model, pruner, 20)
    pruner.finish()

    other = network(1)
    again = pruning.attach(name, other, sparsity=0.8, steps=35)
    other.load_state_dict(state)
    again.load_state_dict(saved)
    half(other, again, 20)
    again.finish()
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_shares_are_exact_and_keep_to_the_room() -> None:
    assert rewiring.shares(10, {"a": 3, "b": 1}, {"a": 100, "b": 100}) == {"a": 8, "b": 2}
    assert rewiring.shares(10, {"a": 9, "b": 1}, {"a": 4, "b": 6}) == {"a": 4, "b": 6}
    assert rewiring.shares(0, {"a": 1}, {"a": 0}) == {"a": 0}
    with pytest.raises(InputError, match="no room"):
        rewiring.shares(3, {"a": 1}, {"a": 2})


def test_bad_options_are_one_clear_line() -> None:
    for name, options, match in (
        ("set", {"sparsity": 1.5, "stop": 3}, r"sparsity 1\.5"),
        ("set", {"sparsity": 0.5, "stop": 0}, "stop 0"),
        ("set", {"sparsity": 0.5, "stop": 3, "zeta": 1.0}, "zeta 1"),
        ("set", {"sparsity": 0.5, "stop": 3, "scope": "2:4"}, "scope '2:4'"),
        ("dsr", {"sparsity": 0.5, "stop": 3, "threshold": 0.0}, "threshold 0"),
        ("deep-r", {"sparsity": 0.5, "stop": 3, "alpha": -1.0}, "alpha -1"),
        ("surgery", {"sparsity": 1.0, "steps": 3}, "sparsity 1"),
        ("set", {"sparsity": 0.5, "steps": 3, "c": 1}, "no option 'c'"),
        ("set", {"sparsity": 0.5}, "stop"),
        ("set", {"sparsity": {"0": 0.5}, "steps": 3}, "one sparsity, not at one by layer"),
    ):
        with pytest.raises(InputError, match=match):
            pruning.attach(name, network(), **options)
