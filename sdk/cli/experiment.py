"""zeroskip experiment SPEC.toml -o RESULTS.sqlite"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zeroskip.cli.table import render
from zeroskip.cli.training import bars, need
from zeroskip.errors import InputError
from zeroskip.tools import write_whole

if TYPE_CHECKING:
    from zeroskip.experiments import Spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC.toml", type=Path, help="see docs/experiments.md")
    parser.add_argument(
        "-o", "--output", type=Path, help="SQLite file to add to (default: SPEC.sqlite)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
        help="cells at a time, one thread each (all cores)",
    )  # fmt: skip
    parser.add_argument("--engine", choices=("joblib", "ray"), default="joblib")
    parser.add_argument("--ray-address", help="of a Ray cluster (default: a new one here)")
    parser.add_argument(
        "--data-folder", type=Path, help="where the data sets are (default: $ZEROSKIP_DATA)"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the cells, and stop")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the table as Markdown")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write plots (SVG and PNG)")
    parser.add_argument("--export", type=Path, metavar="FILE", help="all cells: .parquet or .csv")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    need(("torch", "joblib", "tqdm"), "torch,experiment")
    if args.jobs < 1:
        raise InputError(f"--jobs {args.jobs} must be at least 1")

    from zeroskip import experiments
    from zeroskip.experiments import plots, tables
    from zeroskip.experiments.store import check_export, opened

    # What cannot be written is said now rather than after hours of training.
    for path in (args.table, args.export):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    if args.export is not None:
        check_export(args.export)
    if args.plots is not None:
        plots.check()
    spec = experiments.load(args.spec)
    output = args.output or args.spec.with_suffix(".sqlite")
    if args.dry_run:
        return _list(spec, output)
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
    with opened(output) as store:
        folder = None if args.data_folder is None else str(args.data_folder)
        rows = experiments.run(
            spec, store, jobs=args.jobs, engine=args.engine, address=args.ray_address,
            folder=folder, progress=bars(args.quiet),
        )  # fmt: skip
    head, body = tables.used(tables.lines(rows))
    if body:
        print(*render(head, body, (0,)), sep="\n")
    if args.table is not None:
        write_whole(args.table, tables.markdown(rows).encode())
    if args.plots is not None:
        for path in plots.write(rows, args.plots):
            print(path)
    if args.export is not None:
        experiments.export(rows, args.export)
    failed = [row for row in rows if row["error"]]
    for row in failed:
        ablation = "" if row["ablation"] == "none" else f", {row['ablation']}"
        print(
            f"zeroskip experiment: {row['model']}, {row['method']}{ablation} at "
            f"{100 * row['sparsity']:g} %, seed {row['seed']}: {row['error']}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _list(spec: Spec, output: Path) -> int:
    """Print the cells, and which of them `output` has; nothing is written."""
    from zeroskip import experiments
    from zeroskip.experiments.store import opened

    done: set[str] = set()
    if output.is_file():
        with opened(output) as store:
            done = store.finished()
    cells = experiments.grid(spec)
    for cell in cells:
        there = "  (there)" if experiments.key(spec, cell) in done else ""
        print(f"{cell.model}  seed {cell.seed}  {100 * cell.sparsity:g} %  {cell.row}{there}")
    print(f"{len(cells)} cells")
    return 0
