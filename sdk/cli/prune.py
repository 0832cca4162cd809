"""zeroskip prune MODEL.py:factory|MODEL.pt2 --method M --sparsity S -o OUT.pt2 (or --list)"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskip.cli.table import render
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
    from torch import nn

    from zeroskip.compression.samples import TrainingData
    from zeroskip.pruning import Data, Method, Pruner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, data_required=False)
    parser.add_argument("--list", action="store_true", help="describe the methods, and stop")
    parser.add_argument("--method", default="magnitude", help="see --list (magnitude)")
    parser.add_argument(
        "--sparsity", metavar="S", help="fraction of zeros, or by layer: conv1=0.6,fc1=0.98,..."
    )
    parser.add_argument(
        "--scope",
        help="global, layerwise, erdos-renyi, N:M (2:4), blocks (4x1, 4x1@layerwise); the "
        "method's own by default",
    )
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="rounds of scoring (the method's own)"
    )
    parser.add_argument(
        "--critical", action="store_true",
        help="say how far the method goes before a layer has no weight left (scores more often)",
    )  # fmt: skip
    parser.add_argument("--invert", action="store_true", help="remove the highest scores instead")
    parser.add_argument(
        "--score-samples", type=int, default=10, metavar="N",
        help="of each class, for methods that score by data (10)",
    )  # fmt: skip
    parser.add_argument("--train-epochs", type=int, default=0, help="before pruning (0)")
    parser.add_argument(
        "--epochs", type=int, default=0, help="with the masks; during them, for methods that train"
    )
    add_fit_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, help="exported program to write")


def run(args: argparse.Namespace) -> int:
    need(("torch", "tqdm"), "torch,compress")
    if args.list:
        return _list()
    for name in ("model", "output"):
        if getattr(args, name) is None:
            raise InputError(f"{'MODEL' if name == 'model' else '--output'} is missing; see --help")
    check_output(args.output, ".pt2")
    set_threads(args.threads)

    import torch

    from zeroskip import pruning
    from zeroskip.compression import samples, source
    from zeroskip.compression.training import accuracy, check_fit
    from zeroskip.pruning import capacity, scopes

    found = pruning.method(args.method)
    scope = args.scope or found.scope
    _check(args, found)
    wanted = _sparsity(args.sparsity, scope)
    origin = source.load(args.model)
    data = None if args.data is None else samples.load(args.data, args.data_folder, 0)
    torch.manual_seed(args.seed)
    model = origin.make()
    if data is not None:
        check_fit(model, data)
    shape = source.input_shape(model) if data is None else data.shape
    scopes.check(wanted, list(pruning.targets(model, origin.select, args.exclude)), scope)
    options: dict[str, Any] = {
        "select": origin.select,
        "exclude": tuple(args.exclude),
        "seed": args.seed,
        "data": _score_data(data, args),
    }
    if shape is not None:
        options["example"] = torch.zeros((1, *shape))
    during = _during(args, found, data, wanted) if _trains(found) else None
    if during is not None:
        pruning.settings(found.name, **during)
    if args.critical:
        capacity.check_scope(scope)
    _train(args, model, data, args.train_epochs)
    if args.critical:
        critical = capacity.critical_compression(
            model, args.method, scope=args.scope, iterations=args.iterations, invert=args.invert,
            **options,
        )  # fmt: skip
        print(f"critical compression {critical:,.1f}: beyond it a layer has no weight left")
    if during is not None:
        pruner = pruning.attach(found.name, model, **during, **options)
        _train(args, model, data, args.epochs, pruner)
        pruner.finish()
        masks = pruning.masks_of(model, origin.select, args.exclude)
    else:
        masks = pruning.prune(
            model, wanted, args.method, scope=args.scope, iterations=args.iterations,
            invert=args.invert, **options,
        )  # fmt: skip
        _train(args, model, data, args.epochs)
    print(_table(masks))
    left = sum(int(mask.sum()) for mask in masks.values())
    most = capacity.maximum_compression(model, options["select"], options["exclude"])
    weights = sum(mask.numel() for mask in masks.values())
    print(f"compression {weights / max(1, left):,.1f}, at most {most:,.1f} with a weight per layer")
    for name in capacity.collapsed(masks):
        print(f"warning: layer collapse: no weight of {name} is left")
    if data is not None:
        print(f"test accuracy {100 * accuracy(model, data.test):.2f} % (measured, float32)")
    write_whole(args.output, source.saved(model, shape))
    print(f"{args.output}: written; zeroskip convert takes it")
    return 0


def _trains(method: Method) -> bool:
    """Whether the method prunes while the network trains, not at once."""
    return method.stages == ("during",)


def _check(args: argparse.Namespace, method: Method) -> None:
    """What can be said before anything is loaded or trained. Raises InputError."""
    for name in ("epochs", "train_epochs"):
        if (value := getattr(args, name)) < 0:
            raise InputError(f"--{name.replace('_', '-')} {value} must not be negative")
    if args.score_samples < 1:
        raise InputError(f"--score-samples {args.score_samples} must be at least 1")
    if args.iterations is not None and args.iterations < 1:
        raise InputError(f"--iterations {args.iterations} must be at least 1")
    if args.data is None and (method.needs_data or args.epochs or args.train_epochs):
        raise InputError(f"pruning method '{method.name}' or training needs --data")
    if not _trains(method):
        return
    if not hasattr(method.options, "for_run"):
        raise InputError(
            f"method '{method.name}' aims at no sparsity of its own: use zeroskip.pruning.attach"
        )
    refused = ["iterations", "critical"]
    if method.scorer is None:
        refused += ["scope", "invert"]
    for name in refused:
        if getattr(args, name):
            raise InputError(f"--{name}: method '{method.name}' prunes while it trains")
    if not args.epochs or args.data is None:
        raise InputError(f"method '{method.name}' prunes while it trains: give --epochs and --data")


def _list() -> int:
    from zeroskip import pruning

    rows = []
    for name in pruning.method_names():
        found = pruning.method(name)
        rows.append(
            [name, ", ".join(found.stages), found.scope if found.scorer else "-",
             "data" if found.needs_data else "", found.summary, found.source]
        )  # fmt: skip
    head = ["method", "training", "scope", "needs", "what it does", "source"]
    print(*render(head, rows, range(len(head))), sep="\n")
    return 0


def _sparsity(text: str | None, scope: str) -> float | dict[str, float]:
    from zeroskip.pruning import scopes

    group = scopes.parse(scope).group
    if group is not None:
        if text is not None:
            raise InputError(f"--scope {scope} says the sparsity; leave --sparsity out")
        return 1 - group[0] / group[1]
    if text is None:
        raise InputError("--sparsity is missing; see --help")
    return sparsity(text)


def _score_data(data: TrainingData | None, args: argparse.Namespace) -> Data | None:
    from zeroskip.pruning import Data

    if data is None:
        return None
    rows = data.train.per_class(args.score_samples, args.seed)
    return Data.of(*data.train.batch(rows))


def _train(
    args: argparse.Namespace,
    model: nn.Module,
    data: TrainingData | None,
    epochs: int,
    pruner: Pruner | None = None,
) -> None:
    if not epochs:
        return
    from zeroskip.compression.training import Fit, train_steps

    assert data is not None
    fit = Fit(epochs, args.rate, args.optimizer, args.batch, augment=args.augment)
    train_steps(model, data.train, fit, args.seed, pruner=pruner, progress=bars(args.quiet))


def _during(
    args: argparse.Namespace,
    method: Method,
    data: TrainingData | None,
    wanted: float | dict[str, float],
) -> dict[str, Any]:
    """Options of a method that prunes while the network trains."""
    from zeroskip import pruning
    from zeroskip.compression.training import Fit

    assert data is not None
    steps = Fit(args.epochs, args.rate, args.optimizer, args.batch).steps(data.train)
    options: dict[str, Any] = {"sparsity": wanted, "steps": pruning.final_step(steps)}
    if method.scorer is not None:
        options |= {"scope": args.scope or method.scope, "invert": args.invert}
    return options


def _table(masks: dict[str, Any]) -> str:
    rows = [[n, f"{m.numel():,}", f"{int(m.sum()):,}", f"{100 * (1 - m.double().mean()):.2f}"] for
            n, m in masks.items()]  # fmt: skip
    total, left = sum(m.numel() for m in masks.values()), sum(int(m.sum()) for m in masks.values())
    rows.append(["in all", f"{total:,}", f"{left:,}", f"{100 * (1 - left / total):.2f}"])
    return "\n".join(render(["weights", "count", "left", "zeros %"], rows, (0,)))
