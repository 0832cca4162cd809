"""pyOCD: CMSIS-DAP, ST-LINK and J-Link probes from Python."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from zeroskip.boards import Board
from zeroskip.errors import FlashError
from zeroskip.runners.base import (
    Capabilities,
    Job,
    check_chip,
    check_fits,
    check_readback,
    chip_of,
)
from zeroskip.tools import has_package


class PyOcdRunner:
    """The package `pyocd`, with a CMSIS-Pack where the target is not built in."""

    name = "pyocd"
    capabilities = Capabilities(verifies=True, checks_chip=True, starts=True)

    def refuses(self, board: Board, job: Job) -> str | None:
        programming = board.programming
        if programming is None or programming.pyocd_target is None:
            return "its board.toml names no pyOCD target"
        if not has_package("pyocd"):
            return "pyocd is not installed (pip install 'zeroskip[flash]')"
        if programming.pyocd_pack and job.pack is None:
            return f"its target {programming.pyocd_target} comes in a CMSIS-Pack: pass --pack FILE"
        return None

    def plan(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        options = ", ".join(f"{k} {v}" for k, v in _options(board, job).items())
        return [
            f"pyocd: the probe {job.probe or 'that is connected'}; {options}",
            *(f"write and read back {line}" for line in job.summary()),
            "reset and run",
        ]

    def write(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        helpers: Any = import_module("pyocd.core.helpers")
        probes = helpers.ConnectHelper.get_all_connected_probes(blocking=False)
        if job.probe is not None:
            probes = [p for p in probes if job.probe in p.unique_id]
        if not probes:
            named = "" if job.probe is None else f" with '{job.probe}' in its id"
            raise FlashError(f"no debug probe{named} is connected")
        if len(probes) > 1:
            ids = ", ".join(sorted(p.unique_id for p in probes))
            raise FlashError(
                f"{len(probes)} debug probes are connected: choose with --probe: {ids}"
            )
        exceptions: Any = import_module("pyocd.core.exceptions")
        session_class: Any = import_module("pyocd.core.session").Session
        try:
            with session_class(probes[0], options=_options(board, job)) as session:
                _program(session, board, job)
        except exceptions.Error as error:
            raise FlashError(f"pyocd failed: {' '.join(str(error).split())}") from error
        return [f"pyocd: wrote and read back {line}" for line in job.summary()]


def _options(board: Board, job: Job) -> dict[str, Any]:
    assert board.programming is not None
    options: dict[str, Any] = {"target_override": board.programming.pyocd_target}
    if job.pack is not None:
        options["pack"] = [str(job.pack)]
    return options


def _program(session: Any, board: Board, job: Job) -> None:
    target = session.target
    target.reset_and_halt()
    chip = chip_of(board)
    if chip is not None:
        check_chip(board, target.read32(chip.address), chip)
    programmer: Any = import_module("pyocd.flash.file_programmer")
    programmer.FileProgrammer(session, progress=lambda fraction: None).program(
        str(job.path), file_format="elf"
    )
    for address, data in job.pieces:
        found = bytes(target.read_memory_block8(address, len(data)))
        check_readback(data, found, address)
    target.reset()
