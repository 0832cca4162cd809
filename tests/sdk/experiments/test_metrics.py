"""ShrinkBench's metrics, exact."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from zeroskip import pruning  # noqa: E402
from zeroskip.compression.samples import Samples  # noqa: E402
from zeroskip.experiments import metrics  # noqa: E402


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Linear(7, 5), (7,), 35),
        (nn.Conv2d(3, 8, 3), (3, 10, 10), 8 * 64 * 27),  # "valid": 8x8 places
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10), 8 * 100 * 27),
        (nn.Conv2d(3, 8, 3, padding="same"), (3, 10, 10), 8 * 100 * 27),
        (nn.Conv2d(3, 8, 3, stride=2), (3, 10, 10), 8 * 16 * 27),
        (nn.Conv2d(8, 8, 3, groups=8), (8, 10, 10), 8 * 64 * 9),
        (nn.Conv2d(3, 8, 3, dilation=2), (3, 10, 10), 8 * 36 * 27),
        (nn.Conv1d(4, 6, 5), (4, 20), 6 * 16 * 20),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5), 25 * 4 * 6 * 9),
    ],
    ids=["linear", "valid", "padded", "same", "stride", "depthwise", "dilated", "1d", "transposed"],
)  # fmt: skip
def test_multiply_adds(layer: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert list(metrics.multiply_adds(layer, torch.zeros(1, *shape)).values()) == [expected]


def test_compression_and_speed_up_count_what_is_not_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    nn.init.constant_(model[1].bias, 1.0)  # type: ignore[index,arg-type]
    example = torch.zeros(1, 1, 8, 8)
    whole = metrics.size(model, example)
    assert whole.parameters == whole.nonzero == 36 + 4 + 4 + 4 + 1440 + 10
    assert whole.flops == 36 * 36 + 1440 and whole.compression == whole.speedup == 1.0
    pruning.prune(model, {"0": 0.5, "3": 0.75}, scope="layerwise")
    pruned = metrics.size(model, example)
    assert pruned.nonzero == 18 + 12 + 360 + 10
    assert pruned.compression == whole.parameters / 400
    assert pruned.speedup == pytest.approx((1296 + 1440) / (648 + 360))


def test_a_layer_used_twice_counts_twice() -> None:
    shared = nn.Linear(6, 6)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert metrics.size(model, torch.zeros(1, 6)).flops == 72


def test_top_k() -> None:
    scores = torch.tensor([[9.0, 1, 2], [1, 9, 2], [1, 2, 9], [3, 2, 1]])
    samples = Samples(scores, torch.tensor([0, 2, 0, 0]))
    assert metrics.top(nn.Identity(), samples, (1, 2, 3)) == [0.5, 0.75, 1.0]
    assert metrics.top(nn.Identity(), samples, (1, 5)) == [0.5, 1.0]  # fewer classes than ranks
