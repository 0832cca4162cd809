"""zeroskip compress MODEL.py:factory|MODEL.pt2 --data D -o OUT.zsk (a goal)"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskip.errors import InputError, MissingToolError
from zeroskip.tools import has_package, write_whole

if TYPE_CHECKING:
    from zeroskip.compression import Recipe

_PACKAGES = ("torch", "tqdm", "jinja2", "kmeans1d")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="FILE.py:factory (factory() gives a module) or FILE.pt2"
    )
    parser.add_argument(
        "--data", required=True, help="mnist, cifar10, digits, or an .npz with x, y, x_test, y_test"
    )
    parser.add_argument(
        "--data-folder", type=Path, help="where the data sets are (default: $ZEROSKIP_DATA)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="container to write")
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument(
        "--target-ratio", type=float, metavar="R", help="R times smaller than float32 parameters"
    )
    goal.add_argument(
        "--max-accuracy-loss", type=float, metavar="A",
        help="as sparse as a loss of A points (percent) of validation accuracy allows",
    )  # fmt: skip
    goal.add_argument(
        "--sparsity", metavar="S", help="fraction of zeros, or by layer: conv1=0.6,fc1=0.98,..."
    )
    parser.add_argument("--method", default="magnitude", help="pruning method (magnitude)")
    parser.add_argument(
        "--bits", default="5", metavar="B", help="of an index, 1..8, or auto for each layer (5)"
    )
    parser.add_argument("--train-epochs", type=int, default=0, help="before pruning (0)")
    parser.add_argument("--prune-epochs", type=int, default=10, help="of each round (10)")
    parser.add_argument("--share-epochs", type=int, default=3, help="of the centroids (3)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (0.001)")
    parser.add_argument("--batch", type=int, default=100, help="samples per step (100)")
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    parser.add_argument("--augment", choices=("none", "shift", "crop-flip"), default="none")
    parser.add_argument(
        "--validation", type=float, default=0.1, metavar="F",
        help="fraction of the training samples held out to decide by (0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="LAYER", help="leave a layer as it is"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch (all cores)")
    parser.add_argument(
        "--work", type=Path, help="folder of the checkpoint (default: OUT.zsk.work), to go on from"
    )
    parser.add_argument("--strip", action="store_true", help="leave the names of layers out")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    missing = [package for package in _PACKAGES if not has_package(package)]
    if missing:
        raise MissingToolError(
            f"{missing[0]} is not installed; run: pip install 'zeroskip[torch,compress]'"
        )
    _check_output(args.output)
    import torch

    from zeroskip.compression import Goal, compress, report, samples, source

    if args.threads is not None:
        if args.threads < 1:
            raise InputError(f"--threads {args.threads} must be at least 1")
        torch.set_num_threads(args.threads)
    loss = None if args.max_accuracy_loss is None else args.max_accuracy_loss / 100
    goal = Goal(sparsity=_sparsity(args.sparsity), ratio=args.target_ratio, loss=loss)
    recipe = _recipe(args)
    model = source.load(args.model)
    data = samples.load(args.data, args.data_folder, args.validation)
    work = args.work or args.output.with_name(args.output.name + ".work")
    result = compress(
        model, data, goal, recipe, work, progress=_bars(args.quiet), say=lambda line: print(line)
    )
    named = result.convert(names=True)
    rows = report.layer_rows(named, result.layer_sizes)
    page = report.as_json(result, rows, model.name, data.name, goal, recipe)
    blob = result.blob if args.strip else named
    page["bytes"], page["ratio"] = len(blob), round(result.float_bytes / len(blob), 3)
    html = report.as_html(page)
    write_whole(args.output.with_suffix(".html"), html.encode())
    write_whole(args.output.with_suffix(".json"), (json.dumps(page, indent=1) + "\n").encode())
    write_whole(args.output, blob)
    print(
        f"{args.output}: {len(blob):,} bytes, {result.float_bytes / len(blob):.1f} times fewer "
        f"than {result.float_bytes:,}; test error {100 - 100 * result.accuracy:.2f} % "
        f"(measured, C runtime), before pruning {100 - 100 * result.float_accuracy:.2f} %"
    )
    return 0


def _check_output(path: Path) -> None:
    """Now rather than after hours of training."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    if path.suffix != ".zsk":
        raise InputError(f"--output {path} must end in .zsk; the reports go beside it")


def _recipe(args: argparse.Namespace) -> Recipe:
    from zeroskip.compression import Fit, Recipe

    def fit(epochs: int, rate: float) -> Fit:
        return Fit(epochs, rate, args.optimizer, args.batch, augment=args.augment)

    if args.bits != "auto" and args.bits not in map(str, range(1, 9)):
        raise InputError(f"--bits {args.bits} must be 1 to 8, or auto")
    return Recipe(
        train=fit(args.train_epochs, args.rate),
        prune=fit(args.prune_epochs, args.rate),
        share=fit(args.share_epochs, args.rate / 10),
        method=args.method,
        centroids="auto" if args.bits == "auto" else 1 << int(args.bits),
        exclude=tuple(args.exclude),
        seed=args.seed,
    )


def _sparsity(text: str | None) -> float | dict[str, float] | None:
    if text is None:
        return None
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {name: float(value) for name, value in pairs}
    except ValueError:
        raise InputError(
            f"--sparsity {text} must be a number, or like conv1=0.6,fc1=0.98"
        ) from None


def _bars(quiet: bool) -> Any:
    from tqdm import tqdm

    def progress(steps: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        return tqdm(steps, what, total, leave=False, disable=quiet or None)

    return progress
