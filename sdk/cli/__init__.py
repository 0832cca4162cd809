"""The command line: one module per subcommand.

A command module has `add_arguments(parser)` and `run(args) -> int`. It is imported only when
its command is called, so that `zeroskip --help` stays fast.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Final

from zeroskip.errors import ZeroSkipError

COMMANDS: Final = {
    "convert": "convert a TFLite or PyTorch model to a .zsk container",
    "prune": "prune a PyTorch model by any method of the literature",
    "compress": "prune, share weights, retrain and convert a PyTorch model",
    "experiment": "run a grid of pruning methods, sparsities and seeds",
    "info": "show what a container holds: layers, codecs, bytes, arena",
    "run": "run a container on the host",
    "build": "build firmware for a board from a container",
    "flash": "write firmware to a board",
    "measure": "latency, accuracy and energy of a container on a board",
    "emulate": "run a container on an emulated board and count cycles per layer",
    "report": "one page, JSON or CSV from the records of runs",
    "bench": "cycles of single layers on an emulated board, by sparsity",
    "boards": "list the boards",
    "doctor": "check what is installed and what would be missing",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 success, 1 failed run, 2 bad usage or input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parse(arguments)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s"
    )
    try:
        status: int = import_module(f"zeroskip.cli.{args.command}").run(args)
        sys.stdout.flush()
        return status
    except ZeroSkipError as error:
        if args.debug:
            raise
        print(f"zeroskip {args.command}: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read our output has gone; closing stdout at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if args.debug:
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        print(f"zeroskip {args.command}: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"zeroskip {args.command}: interrupted", file=sys.stderr)
        return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")

    parser = argparse.ArgumentParser(prog="zeroskip", description="Sparse models on Cortex-M.")
    parser.add_argument(
        "--version", action="version", version=f"zeroskip {metadata.version('zeroskip')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = next((a for a in arguments if not a.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, parents=[shared])
        command.add_argument(
            "--version", action="version", version=f"zeroskip {metadata.version('zeroskip')}"
        )
        if name == called:
            import_module(f"zeroskip.cli.{name}").add_arguments(command)
    return parser.parse_args(arguments)
