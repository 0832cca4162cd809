"""A network of your own, from PyTorch to a container, a check on the host, and firmware.

    python examples/your_model.py [BOARD]

Replace `build_model` and the two arrays; the rest stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

import zeroskip
from zeroskip import boards, firmware


def build_model() -> nn.Module:
    """Your trained network; here random weights, 90 % of them pruned."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    for module in model:
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.l1_unstructured(module, "weight", amount=0.9)
    return model.eval()


def main(board_name: str) -> None:
    random = np.random.default_rng(0)
    calibration = random.standard_normal((100, 3, 32, 32), dtype=np.float32)  # training inputs
    test = random.standard_normal((10, 3, 32, 32), dtype=np.float32)  # held-out inputs

    model = build_model()
    blob = zeroskip.convert(model, calibration=calibration)
    Path("model.zsk").write_bytes(blob)
    print(f"model.zsk: {len(blob):,} bytes")

    loaded = zeroskip.Model.load("model.zsk")
    output = loaded.run(test)  # float inputs are quantised with the input's scale
    assert isinstance(output, np.ndarray)
    with torch.no_grad():
        expected = model(torch.from_numpy(test)).numpy()
    error = np.abs(loaded.outputs[0].dequantize(output) - expected).max()
    print(f"largest difference from PyTorch: {error:.4f} (outputs up to {abs(expected).max():.4f})")

    board = boards.load(board_name)
    image = firmware.build(blob, board, output=Path("firmware.elf"))
    print(
        f"firmware.elf for {board.name}: flash {image.sizes.flash:,} of {board.flash.size:,} bytes,"
    )
    print(f"  RAM {image.sizes.ram:,} of {board.ram.size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "nucleo-l4r5zi")
