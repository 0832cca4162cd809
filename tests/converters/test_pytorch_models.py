"""The PyTorch front end as a whole: sources, masks, names, errors, and hostile .pt2 files."""

import io
import json
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from zeroskip.converters import reference
from zeroskip.converters.frontends import pytorch
from zeroskip.converters.ir import Graph
from zeroskip.errors import InputError, ModelError, UnsupportedError, ZeroSkipError
from zeroskip.models import LeNet5, LeNet300, SmallResNet


def assert_same_as_torch(graph: Graph, module: nn.Module, x: Tensor) -> None:
    module.eval()
    with torch.no_grad():
        expected = module(x).numpy()
    found = reference.run(graph, [x.numpy()])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def weight(graph: Graph, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    data = graph.tensors[name].data
    assert data is not None
    return data


def equal(a: Graph, b: Graph) -> bool:
    """Names, order, attributes and every constant."""
    if (a.name, a.ops, a.inputs, a.outputs) != (b.name, b.ops, b.inputs, b.outputs):
        return False
    return list(a.tensors) == list(b.tensors) and all(
        t == b.tensors[n] and np.array_equal(t.data, b.tensors[n].data)  # type: ignore[arg-type]
        if t.data is not None
        else t == b.tensors[n]
        for n, t in a.tensors.items()
    )


@pytest.mark.parametrize(
    ("build", "shape", "parameters"),
    [
        (LeNet300, (1, 28, 28), 266_610),
        (LeNet5, (1, 28, 28), 431_080),
        (lambda: SmallResNet(8), (1, 8, 8), None),
        (lambda: SmallResNet(28, width=8, batch_norm=False), (1, 28, 28), None),
    ],
    ids=["lenet-300-100", "lenet-5", "small-8", "small-28"],
)
def test_reference_networks(
    build: Callable[[], nn.Module], shape: tuple[int, ...], parameters: int | None
) -> None:
    torch.manual_seed(0)
    module = build()
    if parameters is not None:
        assert sum(p.numel() for p in module.parameters()) == parameters
    x = torch.rand(2, *shape)
    module(x.repeat(8, 1, 1, 1))  # moves the statistics of the batch-norms
    assert_same_as_torch(pytorch.load(module, x), module, x)


def test_small_resnet_refuses_other_sizes() -> None:
    with pytest.raises(InputError, match=r"image_size 9 .* use 8 or 28"):
        SmallResNet(9)
    with pytest.raises(InputError, match="width 0"):
        SmallResNet(8, width=0)


class Magnitude(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w * (w.abs() > 0.1)


def test_masks_and_parametrizations_arrive_as_exact_zeros() -> None:
    torch.manual_seed(0)
    module = SmallResNet(8).eval()
    prune.l1_unstructured(module.block1[0], "weight", 0.9)
    prune.random_structured(module.down[0], "weight", 0.5, dim=0)
    parametrize.register_parametrization(module.classifier, "weight", Magnitude())
    x = torch.rand(2, 1, 8, 8)
    graph = pytorch.load(module, x)
    assert_same_as_torch(graph, module, x)
    masked = module.block1[0].weight.detach().numpy()
    assert np.array_equal(weight(graph, "block1.0.weight") == 0, masked == 0)
    assert np.mean(weight(graph, "block1.0.weight") == 0) == pytest.approx(0.9, abs=0.001)
    rows = weight(graph, "down.0.weight").reshape(32, -1)
    assert np.sum(~rows.any(axis=1)) == 16
    dense = module.classifier.parametrizations.weight.original.detach().numpy()
    assert np.array_equal(weight(graph, "classifier.weight") == 0, np.abs(dense) <= 0.1)


def test_the_module_is_left_as_it_was() -> None:
    module = SmallResNet(8)
    module.block1.eval()
    modes = [part.training for part in module.modules()]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    prune.l1_unstructured(module.stem[0], "weight", 0.5)
    pytorch.load(module, torch.rand(4, 1, 8, 8))
    assert [part.training for part in module.modules()] == modes
    prune.remove(module.stem[0], "weight")
    assert all(torch.equal(before[n], v) for n, v in module.state_dict().items() if "stem" not in n)
    assert module.eval()(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_names_are_module_paths_and_loading_is_deterministic() -> None:
    torch.manual_seed(0)
    module = SmallResNet(8)
    x = np.zeros((3, 1, 8, 8))  # float64: values and type of the example do not matter
    graph = pytorch.load(module, x)
    assert graph.name == "SmallResNet"
    assert [op.name for op in graph.ops] == [
        "stem.0", "block1.0", "block2.0", "add", "down.0", "depthwise.0", "pointwise.0", "pool",
        "classifier",
    ]  # fmt: skip
    assert graph.inputs == ("x",) and graph.tensors["x"].shape == (1, 8, 8)
    assert equal(graph, pytorch.load(module, torch.ones(1, 1, 8, 8)))
    assert pytorch.load(module, x, name="other").name == "other"


def test_a_module_called_twice_shares_its_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.fc(torch.tanh(self.fc(x))))

    graph = pytorch.load(Twice(), torch.zeros(1, 4))
    assert [op.name for op in graph.ops] == ["fc", "tanh", "fc_1"]
    assert graph.ops[0].inputs[1:] == graph.ops[2].inputs[1:] == ("fc.weight", "fc.bias")


def test_several_inputs_and_a_block_without_gradients() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                features = self.fc(x)
            return {"scores": features * y, "twice": y * 2}

    graph = pytorch.load(Frozen(), [torch.zeros(2, 4), np.zeros((2, 3), np.float32)])
    assert graph.inputs == ("x", "y")
    assert [op.name for op in graph.ops] == ["fc", "mul", "mul_1"]
    assert graph.outputs == ("mul", "mul_1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 8, 8),)), path)
    return module, path


def test_exported_programs_and_files_give_the_same_graph(saved: tuple[nn.Module, Path]) -> None:
    module, path = saved
    graph = pytorch.load(path)
    assert graph.name == "net"
    assert [op.kind for op in graph.ops] == ["conv2d", "reshape", "fully_connected"]
    assert (graph.ops[0].name, graph.ops[2].name) == ("0", "4")
    x = torch.rand(2, 1, 8, 8)
    assert_same_as_torch(graph, module, x)
    program = torch.export.export(module, (torch.zeros(1, 1, 8, 8),))
    assert equal(graph, pytorch.load(program, name="net"))
    assert equal(graph, pytorch.load(module, x, name="net"))
    decomposed = program.run_decompositions(torch.export.default_decompositions())
    assert_same_as_torch(pytorch.load(decomposed), module, x)


def test_bad_arguments() -> None:
    module = nn.Linear(4, 2)
    for arguments, message in [
        ((module,), "Linear needs example inputs"),
        ((module, torch.zeros(4)), "batch axis"),
        ((module, torch.zeros(0, 4)), "batch axis"),
        ((module, []), "batch axis"),
        ((42,), "cannot convert a int"),
    ]:
        with pytest.raises(InputError, match=message):
            pytorch.load(*arguments)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"cannot trace Linear with inputs \[\[1, 5\]\]"):
        pytorch.load(module, torch.zeros(1, 5))
    with pytest.raises(OSError):
        pytorch.load("no-such-file.pt2")


def test_programs_that_move_or_keep_state_are_refused() -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    linear = nn.Linear(4, 2)
    dynamic = torch.export.export(linear, (torch.zeros(3, 4),), dynamic_shapes=[{0: batch}])
    with pytest.raises(UnsupportedError, match=r"dynamic shape.*batch of 1"):
        pytorch.load(dynamic)
    with pytest.raises(UnsupportedError, match="batch of 1"):
        pytorch.load(torch.export.export(linear, (torch.zeros(3, 4),)))
    training = torch.export.export(nn.BatchNorm1d(4).train(), (torch.zeros(3, 4),))
    with pytest.raises(UnsupportedError, match=r"state between calls.*eval mode"):
        pytorch.load(training)
    dropout = torch.export.export(nn.Dropout(0.5).train(), (torch.zeros(1, 4),))
    with pytest.raises(
        UnsupportedError,
        match=r"training mode|aten\.(rand|bernoulli|native_dropout).*not supported",
    ):
        pytorch.load(dropout)
    with pytest.raises(UnsupportedError, match="int64"):
        pytorch.load(torch.export.export(nn.Embedding(4, 2), (torch.zeros(1, 4).long(),)))


def rewritten(path: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of the archive with some members changed."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def edit_json(suffix: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        name = next(n for n in members if n.endswith(suffix))
        content = json.loads(members[name])
        change(content)
        members[name] = json.dumps(content).encode()

    return apply


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def first_weight(config: Any) -> Any:
    return next(iter(config["config"].values()))


def hostile(marker: Path) -> dict[str, tuple[Callable[[dict[str, bytes]], None], str]]:
    bomb = pickle.dumps(Bomb(marker))
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    def pickled_weight(members: dict[str, bytes]) -> None:
        edit_json("weights_config.json", lambda c: first_weight(c).update(use_pickle=True))(members)
        members[next(n for n in members if n.endswith("/weight_0"))] = bomb

    def sample_inputs(members: dict[str, bytes]) -> None:
        members[next(n for n in members if "sample_inputs" in n)] = bomb

    def opaque_constant(members: dict[str, bytes]) -> None:
        meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True,
                "tensor_meta": None}  # fmt: skip
        edit_json("constants_config.json", lambda c: c["config"].update(x=meta))(members)
        members["net/data/constants/opaque_obj_0"] = bomb

    def symbol(model: Any) -> None:
        values = model["graph_module"]["graph"]["tensor_values"]
        next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": code, "hint": None}}

    def symbolic_value(model: Any) -> None:
        model["graph_module"]["graph"]["sym_int_values"]["s"] = {
            "as_expr": {"expr_str": code, "hint": None}
        }

    def target(name: str) -> Callable[[Any], None]:
        return lambda model: model["graph_module"]["graph"]["nodes"][0].update(target=name)

    def spec(model: Any) -> None:
        call = model["graph_module"]["module_call_graph"][0]["signature"]
        tree = {"type": "collections.defaultdict", "context": code, "children_spec": []}
        call["in_spec"] = json.dumps([1, tree])

    def size(config: Any) -> None:
        first_weight(config)["tensor_meta"]["sizes"][0] = {"as_int": 1 << 40}

    model = "models/model.json"
    return {
        "pickled-weight": (pickled_weight, "stored as a pickle"),
        "opaque-constant": (opaque_constant, "stored as a pickle"),
        "sample-inputs": (sample_inputs, ""),
        "guards": (edit_json(model, lambda m: m.update(guards_code=[code])), ""),
        "symbol": (edit_json(model, symbol), "holds a expr"),
        "symbolic-value": (edit_json(model, symbolic_value), "sym_int_values"),
        "ranges": (
            edit_json(model, lambda m: m.update(range_constraints={"s": {}})), "dynamic shapes"),
        "torch-function": (edit_json(model, target("torch.hub.load")), "torch.hub.load"),
        "other-namespace": (edit_json(model, target("torch.ops.prims.add.default")), "prims"),
        "file-operator": (
            edit_json(model, target("torch.ops.aten.from_file.default")), "refuses it|from_file"),
        "pytree": (edit_json(model, spec), "defaultdict"),
        "huge-weight": (edit_json("weights_config.json", size), "does not fit its"),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile(Path("marker")))
def test_hostile_archives_run_no_code(
    name: str, saved: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    change, message = hostile(marker)[name]
    path = rewritten(saved[1], tmp_path / "bad.pt2", change)
    if name in ("sample-inputs", "guards"):
        assert len(pytorch.load(path).ops) == 3  # what is not needed is not looked at
    else:
        with pytest.raises(ModelError, match=message) as caught:
            pytorch.load(path)
        assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_pickled_checkpoints_are_refused_with_a_remedy(tmp_path: Path) -> None:
    for name, thing in (("net.pt", nn.Linear(2, 2)), ("net.pth", nn.Linear(2, 2).state_dict())):
        torch.save(thing, tmp_path / name)
        with pytest.raises(UnsupportedError, match=r"unpickling can run code.*torch\.export\.save"):
            pytorch.load(tmp_path / name)
    (tmp_path / "text.pt2").write_bytes(b"not a zip")
    with pytest.raises(ModelError, match=r"no readable \.pt2 file"):
        pytorch.load(tmp_path / "text.pt2")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(UnsupportedError, match=r"not a \.pt2 archive"):
        pytorch.load(tmp_path / "other.pt2")


def test_damaged_archives_end_in_one_error(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    original = saved[1].read_bytes()
    rng = random.Random(0)
    path = tmp_path / "damaged.pt2"
    for trial in range(60):
        damaged = bytearray(original)
        if trial % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.randrange(1, 8)):
            if damaged:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        load_or_refuse(path)


def test_damaged_json_ends_in_one_error(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """Past the checksums of the zip: values of the JSON replaced by others."""
    rng = random.Random(0)
    values: list[Any] = [None, -1, 0, 7, 1 << 62, 1.5, "x", True, [], {}, [1], {"as_int": 3}]
    for trial in range(40):
        suffix = "models/model.json" if trial % 4 else "weights_config.json"

        def mutate(content: Any) -> None:
            places: list[tuple[Any, Any]] = []
            pending = [content]
            while pending:
                node = pending.pop()
                keys = node if isinstance(node, dict) else range(len(node))
                for key in keys:
                    places.append((node, key))
                    if isinstance(node[key], dict | list):
                        pending.append(node[key])
            for _ in range(2):
                node, key = rng.choice(places)
                node[key] = rng.choice(values)

        path = rewritten(saved[1], tmp_path / "damaged.pt2", edit_json(suffix, mutate))
        load_or_refuse(path)


def load_or_refuse(path: Path) -> None:
    try:
        pytorch.load(path)
    except ZeroSkipError as error:
        assert "\n" not in str(error)


def test_importing_the_front_end_does_not_import_torch() -> None:
    code = "import sys; import zeroskip.converters.frontends.pytorch; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_torchscript_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/data.pkl", b"")
    (tmp_path / "net.pt").write_bytes(buffer.getvalue())
    with pytest.raises(UnsupportedError, match="TorchScript"):
        pytorch.load(tmp_path / "net.pt")
