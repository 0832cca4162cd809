"""zeroskip report RUNS... [-o REPORT.html] [--json F] [--csv F]"""

import argparse
from pathlib import Path

from zeroskip.errors import InputError
from zeroskip.report import page, runs, tables
from zeroskip.tools import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN.json",
        help="records of runs, from `zeroskip emulate --save` and `zeroskip measure --save`",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="REPORT.html", help="one page without outside links"
    )
    parser.add_argument("--json", type=Path, metavar="F", help="all runs as one JSON object")
    parser.add_argument("--csv", type=Path, metavar="F", help="one row per layer and run")


def run(args: argparse.Namespace) -> int:
    wanted = ((args.output, page.to_html), (args.json, tables.to_json), (args.csv, tables.to_csv))
    paths = [path for path, _ in wanted if path is not None]
    if not paths:
        raise InputError("nothing to write: give -o REPORT.html, --json F or --csv F")
    resolved = [path.resolve() for path in [*args.runs, *paths]]
    if len(set(resolved[len(args.runs) :])) < len(paths):
        raise InputError("two outputs have the same name")
    if set(resolved[: len(args.runs)]) & set(resolved[len(args.runs) :]):
        raise InputError("an output would replace one of the runs")
    found = [runs.load(path) for path in args.runs]
    # All contents before the first file: a run that cannot be reported leaves none behind.
    made = [(path, make(found)) for path, make in wanted if path is not None]
    for path, content in made:
        write_whole(path, content)
        print(f"{path}: {len(content):,} bytes, {len(found)} run{'s' * (len(found) != 1)}")
    return 0
