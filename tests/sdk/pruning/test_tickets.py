"""Lottery tickets, their controls, and linear mode connectivity."""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.compression.samples import Samples  # noqa: E402
from zeroskip.compression.training import Fit, accuracy, train_steps  # noqa: E402
from zeroskip.errors import InputError  # noqa: E402
from zeroskip.pruning import connectivity, controls, tickets  # noqa: E402

FIT = Fit(2, 1e-2, batch=20, decay="constant")


def problem() -> Samples:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=generator)
    return Samples(x, (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2] > 0).long())


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 4))


def trainer(samples: Samples) -> Any:
    def train(model: nn.Module, start: int, stop: int, noise: int) -> None:
        train_steps(model, samples, FIT, noise, start=start, stop=stop)

    return train


def test_densities_end_at_what_was_asked_for() -> None:
    assert tickets.densities(0.5, rate=0.2) == pytest.approx([0.8, 0.64, 0.512, 0.5])
    assert tickets.densities(0.75, rounds=2) == pytest.approx([0.5, 0.25])
    assert tickets.densities(0.9, rounds=1) == pytest.approx([0.1])
    for bad in ({"sparsity": 1.0}, {"sparsity": 0.5, "rate": 1.0}, {"sparsity": 0.5, "rounds": 0}):
        with pytest.raises(InputError):
            tickets.densities(**bad)  # type: ignore[arg-type]


def test_weights_rewind_to_initialisation_or_to_a_step() -> None:
    samples, model = problem(), network()
    initial = copy.deepcopy(model.state_dict())
    steps = FIT.steps(samples)
    found = list(tickets.tickets(model, trainer(samples), steps, [0.5, 0.25]))
    assert [t.density for t in found] == [1.0, 0.5, 0.25]
    for ticket in found[1:]:
        start = pruning.targets(ticket.start)["0.weight"]
        assert torch.equal(start.original, initial["0.weight"])
        kept = ticket.masks["0.weight"]
        assert torch.equal(start.value, torch.where(kept, initial["0.weight"], 0.0))
        assert not torch.equal(pruning.targets(ticket.trained)["0.weight"].value, start.value)
        # What goes is what was smallest at the end of the round before.
        before = found[ticket.round - 1]
        ended = {n: t.value.abs() for n, t in pruning.targets(before.trained).items()}
        size = torch.cat([ended[n][before.masks[n]] for n in ended])
        stays = torch.cat([ticket.masks[n][before.masks[n]] for n in ended])
        assert size[~stays].max() <= size[stays].min()
    assert all(torch.equal(initial[k], v) for k, v in model.state_dict().items())

    late = list(tickets.tickets(model, trainer(samples), steps, [0.5], to=7))
    stepped = copy.deepcopy(model)
    trainer(samples)(stepped, 0, 7, 0)
    assert torch.equal(pruning.targets(late[1].start)["0.weight"].original, stepped[0].weight)


def test_learning_rate_rewinding_keeps_the_weights() -> None:
    samples = problem()
    found = list(
        tickets.tickets(
            network(), trainer(samples), FIT.steps(samples), [0.5], rewind="learning-rate"
        )
    )
    before = pruning.targets(found[0].trained)["0.weight"].value
    assert torch.equal(pruning.targets(found[1].start)["0.weight"].original, before)


def test_inverted_tickets_lose_their_largest_weights() -> None:
    samples = problem()
    first, second = tickets.tickets(
        network(), trainer(samples), FIT.steps(samples), [0.5], invert=True
    )
    ended = torch.cat([t.value.abs().flatten() for t in pruning.targets(first.trained).values()])
    stays = torch.cat([mask.flatten() for mask in second.masks.values()])
    assert ended[stays].max() <= ended[~stays].min()


def test_powers_prune_a_layer_more_slowly() -> None:
    samples = problem()
    found = list(
        tickets.tickets(
            network(), trainer(samples), FIT.steps(samples), [0.25],
            scope="layerwise", powers={"3": 0.5},
        )
    )  # fmt: skip
    assert float(found[1].masks["0.weight"].double().mean()) == 0.25
    assert float(found[1].masks["3.weight"].double().mean()) == 0.5
    with pytest.raises(InputError, match="no weights 'fc9'"):
        next(tickets.tickets(network(), trainer(samples), 4, [0.5], scope="layerwise",
                             powers={"fc9": 1.0}))  # fmt: skip


def test_controls_keep_counts_and_masks() -> None:
    samples = problem()
    *_, ticket = tickets.tickets(network(), trainer(samples), FIT.steps(samples), [0.3])
    moved = controls.shuffled(ticket.masks, 1)
    assert all(int(moved[n].sum()) == int(m.sum()) for n, m in ticket.masks.items())
    assert any(not torch.equal(moved[n], m) for n, m in ticket.masks.items())
    random_mask = tickets.with_masks(ticket, moved)
    assert torch.equal(pruning.masks_of(random_mask)["0.weight"], moved["0.weight"])

    again = tickets.reinitialised(ticket, 5)
    assert torch.equal(pruning.masks_of(again)["0.weight"], ticket.masks["0.weight"])
    weights, old = (pruning.targets(m)["0.weight"].original for m in (again, ticket.start))
    assert not torch.equal(weights, old)
    torch.manual_seed(5)
    assert torch.equal(weights, nn.Linear(8, 24).weight)  # drawn as the module draws it
    made = copy.deepcopy(ticket.start)
    controls.reinitialise(made, 5, network)
    assert torch.equal(pruning.targets(made)["0.weight"].original, network()[0].weight)  # type: ignore[index]


def test_reinitialise_refuses_what_it_cannot_draw() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(InputError, match="'1' has parameters but no reset_parameters"):
        controls.reinitialise(nn.Sequential(nn.Linear(3, 3), Scale()), 0)


def test_the_segment_between_two_networks() -> None:
    samples = problem()
    first, second = network(), network()
    trainer(samples)(first, 0, 20, 1)
    trainer(samples)(second, 0, 20, 2)
    pruning.prune(first, 0.4, "magnitude")

    def error(model: nn.Module) -> float:
        return 1 - accuracy(model, samples)

    segment = connectivity.error_along(first, second, error, points=5)
    assert segment.alphas == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert segment.errors[0] == error(first.eval()) and segment.errors[-1] == error(second.eval())
    hand_made = connectivity.Segment((0.0, 0.5, 1.0), (0.1, 0.4, 0.2))
    assert hand_made.instability == pytest.approx(0.25) and not hand_made.stable
    assert connectivity.Segment((0.0, 0.5, 1.0), (0.1, 0.11, 0.1)).stable
    middle = connectivity.interpolated(first, second, 0.25).state_dict()
    expected = 0.75 * pruning.targets(first)["0.weight"].value + 0.25 * second[0].weight
    torch.testing.assert_close(middle["0.weight"], expected)
    with pytest.raises(InputError, match="same tensors"):
        connectivity.interpolated(first, nn.Linear(2, 2), 0.5)


def test_a_network_on_both_ends_is_stable_and_mirrored_ones_are_not() -> None:
    samples, model = problem(), network()
    trainer(samples)(model, 0, 20, 1)

    def error(trial: nn.Module) -> float:
        return 1 - accuracy(trial, samples)

    same = connectivity.error_along(model, model, error, points=3)
    assert same.instability == 0 and same.stable
    # Hidden units in another order: the same function at the ends, another one in between.
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    mirrored = copy.deepcopy(model)
    for name, tensor in mirrored.state_dict().items():
        if tensor.ndim and tensor.shape[0] == 24:
            tensor.copy_(model.state_dict()[name][order])
    mirrored[3].weight.data = model[3].weight.data[:, order]  # type: ignore[index]
    across = connectivity.error_along(model, mirrored, error, points=11)
    assert across.errors[0] == across.errors[-1] and not across.stable


def test_instability_trains_two_copies_under_the_same_masks() -> None:
    samples, start = problem(), network()
    masks = pruning.prune(start, 0.5, "random")
    seen = []

    def train(model: nn.Module, seed: int) -> None:
        seen.append((seed, pruning.masks_of(model)["0.weight"]))
        trainer(samples)(model, 0, 10, seed)

    connectivity.instability(start, train, lambda m: 1 - accuracy(m, samples), points=3)
    assert [seed for seed, _ in seen] == [1, 2]
    assert all(torch.equal(mask, masks["0.weight"]) for _, mask in seen)
    with pytest.raises(InputError, match="two different seeds"):
        connectivity.instability(start, train, lambda m: 0.0, seeds=(1, 1))


def test_statistics_are_gathered_afresh() -> None:
    samples, model = problem(), network()
    data = pruning.Data.of(samples.values, samples.labels, 200)
    connectivity.recompute_statistics(model, data)
    with torch.no_grad():
        hidden = model[0](samples.values)  # type: ignore[index]
    torch.testing.assert_close(model[1].running_mean, hidden.mean(0))  # type: ignore[index]
    torch.testing.assert_close(model[1].running_var, hidden.var(0))  # type: ignore[index]
    assert model[1].momentum == 0.1  # type: ignore[index]
