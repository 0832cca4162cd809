"""zeroskip compress MODEL.py:factory|MODEL.pt2 --data D -o OUT.zsk (a goal)"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zeroskip.cli.training import (
    add_fit_arguments,
    add_model_arguments,
    bars,
    check_output,
    need,
    set_threads,
    sparsity,
)
from zeroskip.errors import InputError
from zeroskip.tools import write_whole

if TYPE_CHECKING:
    from zeroskip.compression import Recipe

_PACKAGES = ("torch", "tqdm", "jinja2", "kmeans1d")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, data_required=True)
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
    add_fit_arguments(parser)
    parser.add_argument(
        "--validation", type=float, default=0.1, metavar="F",
        help="fraction of the training samples held out to decide by (0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--work", type=Path, help="folder of the checkpoint (default: OUT.zsk.work), to go on from"
    )
    parser.add_argument("--strip", action="store_true", help="leave the names of layers out")


def run(args: argparse.Namespace) -> int:
    need(_PACKAGES, "torch,compress")
    check_output(args.output, ".zsk", "; the reports go beside it")
    from zeroskip.compression import Goal, compress, report, samples, source

    set_threads(args.threads)
    loss = None if args.max_accuracy_loss is None else args.max_accuracy_loss / 100
    goal = Goal(
        sparsity=sparsity(args.sparsity) if args.sparsity else None,
        ratio=args.target_ratio,
        loss=loss,
    )
    recipe = _recipe(args)
    model = source.load(args.model)
    data = samples.load(args.data, args.data_folder, args.validation)
    work = args.work or args.output.with_name(args.output.name + ".work")
    result = compress(
        model, data, goal, recipe, work, progress=bars(args.quiet), say=lambda line: print(line)
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
