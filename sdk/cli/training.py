"""What the commands that train have in common: arguments, progress bars."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zeroskip.errors import InputError, MissingToolError
from zeroskip.tools import has_package


def add_model_arguments(parser: argparse.ArgumentParser, *, data_required: bool) -> None:
    """MODEL, --data and --data-folder."""
    parser.add_argument(
        "model", metavar="MODEL", nargs=None if data_required else "?",
        help="FILE.py:factory or module:factory, a function that gives a module; or FILE.pt2",
    )  # fmt: skip
    parser.add_argument(
        "--data", required=data_required,
        help="mnist, cifar10, digits, or an .npz with x, y, x_test, y_test",
    )  # fmt: skip
    parser.add_argument(
        "--data-folder", type=Path, help="where the data sets are (default: $ZEROSKIP_DATA)"
    )


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """How to train: --rate, --batch, --optimizer, --augment; and --seed, --threads, --quiet."""
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (0.001)")
    parser.add_argument("--batch", type=int, default=100, help="samples per step (100)")
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    parser.add_argument("--augment", choices=("none", "shift", "crop-flip"), default="none")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="LAYER", help="leave a layer as it is"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch (all cores)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def need(packages: Iterable[str], extras: str) -> None:
    """Raises MissingToolError for the first package that is not installed."""
    for package in packages:
        if not has_package(package):
            raise MissingToolError(
                f"{package} is not installed; run: pip install 'zeroskip[{extras}]'"
            )


def set_threads(count: int | None) -> None:
    """The threads of torch; None leaves them. Raises InputError."""
    import torch

    if count is not None:
        if count < 1:
            raise InputError(f"--threads {count} must be at least 1")
        torch.set_num_threads(count)


def check_output(path: Path, suffix: str, why: str = "") -> None:
    """Now rather than after hours of training. Raises InputError."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    if path.suffix != suffix:
        raise InputError(f"--output {path} must end in {suffix}{why}")


def sparsity(text: str) -> float | dict[str, float]:
    """One fraction, or one by layer: conv1=0.6,fc1=0.98. Raises InputError."""
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        result = {name: float(value) for name, value in pairs}
    except ValueError:
        raise InputError(
            f"--sparsity {text} must be a number, or like conv1=0.6,fc1=0.98"
        ) from None
    if len(result) < len(pairs):
        raise InputError(f"--sparsity {text} names a layer twice")
    return result


def bars(quiet: bool) -> Any:
    """A maker of progress bars."""
    from tqdm import tqdm

    def progress(steps: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        return tqdm(steps, what, total, leave=False, disable=quiet or None)

    return progress
