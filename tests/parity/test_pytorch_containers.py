"""A trained PyTorch network with a residual sum, depthwise and strided convolutions, as container.

float32: within 1e-4 of torch. int8: within a point of torch's accuracy on held-out digits, and
bit for bit the oracle's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

import zeroskip  # noqa: E402
from zeroskip.conversion import load_graph  # noqa: E402
from zeroskip.converters import reference  # noqa: E402
from zeroskip.models import SmallResNet  # noqa: E402

EPOCHS = 10


@dataclass(frozen=True)
class Trained:
    network: torch.nn.Module
    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray

    def logits(self) -> np.ndarray:
        with torch.no_grad():
            return self.network(torch.from_numpy(self.test)).numpy()


@pytest.fixture(scope="module")
def trained() -> Trained:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    images = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    train, test, train_y, test_y = train_test_split(
        images, y, test_size=0.25, random_state=0, stratify=y
    )
    torch.set_num_threads(1)  # small tensors: threads only get in the way of each other
    torch.manual_seed(0)
    network = SmallResNet(8)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    inputs, targets = torch.from_numpy(train), torch.from_numpy(train_y)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    return Trained(network.eval(), train, test, test_y)


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


def test_float32_container_is_within_1e_4_of_torch(trained: Trained) -> None:
    blob = zeroskip.convert(trained.network, example_inputs=trained.test[:1], float32=True)
    got = np.asarray(zeroskip.Model(blob).run(trained.test))
    expected = trained.logits()
    assert got.dtype == np.float32 and got.shape == expected.shape
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(got - expected) / scale).max() < 1e-4


@pytest.mark.parametrize("clipping", ["minmax", "mse"])
def test_int8_container_is_within_a_point_of_torch(trained: Trained, clipping: str) -> None:
    expected = accuracy(trained.logits(), trained.labels)
    assert expected > 0.95  # the network has learnt something
    calibration = trained.train[:300]
    blob = zeroskip.convert(trained.network, calibration=calibration, clipping=clipping)
    model = zeroskip.Model(blob)
    got = np.asarray(model.run(trained.test))
    assert got.dtype == np.int8
    assert accuracy(got, trained.labels) >= expected - 0.01

    graph = load_graph(trained.network, calibration=calibration, clipping=clipping)
    quantized = model.inputs[0].quantize(trained.test)
    assert np.array_equal(got, reference.run(graph, [quantized])[0])


def test_compact_parameters_cost_no_accuracy(trained: Trained) -> None:
    from zeroskip.converters.frontends import pytorch
    from zeroskip.converters.passes.quantize import quantize
    from zeroskip.converters.passes.short_parameters import round_biases

    calibration = trained.train[:300]
    graph = pytorch.load(trained.network, calibration)
    outputs, errors = [], []
    for compact in (True, False):
        quantized = quantize(graph, calibration, method="mse", compact=compact)
        if compact:
            quantized = round_biases(quantized)
        x, y = (quantized.tensors[n] for n in (quantized.inputs[0], quantized.outputs[0]))
        steps = np.clip(np.rint(trained.test / x.scale) + x.zero_point, -128, 127)
        outputs.append(reference.run(quantized, [steps.astype(np.int8)])[0].astype(int))
        errors.append(outputs[-1] - y.zero_point - trained.logits() / y.scale)
    short, full = (accuracy(scores, trained.labels) for scores in outputs)
    assert abs(short - full) <= 0.005
    # A weight in twenty is rounded the other way, which ten layers carry on.
    assert (np.abs(outputs[0] - outputs[1]) <= 1).mean() >= 0.95
    assert np.abs(outputs[0] - outputs[1]).max() <= 4
    noise = [np.sqrt(np.square(error).mean()) for error in errors]
    assert noise[0] <= 1.1 * noise[1]


def test_float_inputs_and_outputs(trained: Trained) -> None:
    calibration = trained.train[:300]
    inner = zeroskip.Model(zeroskip.convert(trained.network, calibration=calibration))
    outer = zeroskip.Model(
        zeroskip.convert(trained.network, calibration=calibration, float_io=True)
    )
    assert outer.inputs[0].dtype == outer.outputs[0].dtype == np.float32
    expected = inner.outputs[0].dequantize(np.asarray(inner.run(trained.test)))
    assert np.array_equal(outer.run(trained.test), expected)


def test_pruned_weights_are_not_multiplied(trained: Trained) -> None:
    from torch.nn.utils import prune

    network = SmallResNet(8)
    network.load_state_dict(trained.network.state_dict())
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            prune.l1_unstructured(module, "weight", amount=0.9)
    blob = zeroskip.convert(network.eval(), calibration=trained.train[:100])
    dense = zeroskip.convert(trained.network, calibration=trained.train[:100])
    from zeroskip.converters.container import describe

    description = describe(blob)
    assert len(blob) < 0.5 * len(dense)
    for op, full in zip(description.ops, describe(dense).ops, strict=True):
        if op.weights is not None:  # channels that nothing reads are gone altogether
            assert op.weights.nonzeros <= 0.12 * full.weights.size, op.name
    _, macs = zeroskip.Model(blob).run_counted(trained.test[:1])
    assert sum(macs) <= description.macs_nonzero_weight < 0.13 * describe(dense).macs


def test_a_pt2_file_converts_to_the_same_bytes(trained: Trained, tmp_path) -> None:
    from zeroskip.cli import main

    example = torch.from_numpy(trained.test[:1])
    path = tmp_path / "digits.pt2"
    torch.export.save(torch.export.export(trained.network, (example,)), path)
    np.savez(tmp_path / "calibration.npz", x=trained.train[:200])
    out = tmp_path / "digits.zsk"
    calibration = ["--calibration", str(tmp_path / "calibration.npz")]
    assert main(["convert", str(path), "-o", str(out), *calibration]) == 0
    expected = zeroskip.convert(trained.network, calibration=trained.train[:200])
    assert out.read_bytes() == expected
    assert main(["convert", str(path), "-o", str(out), "--float32", "--strip"]) == 0
    assert zeroskip.Model.load(out).inputs[0].dtype == np.float32
