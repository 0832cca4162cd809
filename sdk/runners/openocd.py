"""OpenOCD, with its own configuration of the board."""

from __future__ import annotations

import re
import shlex

from zeroskip.boards import Board
from zeroskip.errors import FlashError, ToolError
from zeroskip.runners.base import Capabilities, Job, check_fits, chip_of
from zeroskip.runners.ports import refuse_two_boards
from zeroskip.tools import find_program, run_tool

PROGRAM = "openocd"
_TIMEOUT_S = 180.0
_VERIFIED = "** Verified OK **"
_CHIP_MARK = "zeroskip: another chip"
_NO_INTERFACE = (
    "the OpenOCD configuration of {board} names no debug probe: in a board.toml of your own put "
    "interface/cmsis-dap.cfg, stlink.cfg or jlink.cfg before it; nothing was written"
)
# What OpenOCD says, and what it means.
_MEANINGS = (
    (_CHIP_MARK, "another chip than that of {board}; nothing was written"),
    ("open failed", "no debug probe of {board} is connected"),
    ("unable to find a matching CMSIS-DAP device", "no debug probe of {board} is connected"),
    ("No J-Link device found", "no debug probe of {board} is connected"),
    ("support any transports", _NO_INTERFACE),
    ("Debug Adapter has to be specified", _NO_INTERFACE),
    ("no device found", "no debug probe of {board} is connected"),
    ("Verify Failed", "verification failed: what was written reads otherwise"),
    ("checksum mismatch", "verification failed: what was written reads otherwise"),
)


class OpenOcdRunner:
    """The program `openocd`."""

    name = "openocd"
    capabilities = Capabilities(verifies=True, checks_chip=True, starts=True)

    def refuses(self, board: Board, job: Job) -> str | None:
        if board.programming is None or not board.programming.openocd:
            return "its board.toml names no OpenOCD configuration"
        if find_program(PROGRAM) is None:
            return "openocd is not installed (apt install openocd)"
        return None

    def plan(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        return [f"run {shlex.join(command(board, job))}", *job.summary()]

    def write(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        refuse_two_boards(board, job)
        try:
            done = run_tool(command(board, job), timeout_s=_TIMEOUT_S)
        except ToolError as error:
            raise FlashError(_explained(board, str(error))) from error
        if _VERIFIED not in done.stdout:
            # It may end with status 0 where a configuration file failed.
            raise FlashError(_explained(board, done.stdout))
        return [f"openocd: wrote, verified and reset {board.name}"]


def command(board: Board, job: Job) -> list[str]:
    """The command line: find the chip, compare its id, write, verify, reset."""
    assert board.programming is not None
    arguments = [PROGRAM]
    for file in board.programming.openocd:
        arguments += ["-f", file]
    if job.probe is not None:
        arguments += ["-c", f"adapter serial {job.probe}"]
    arguments += ["-c", "init", "-c", "reset halt"]
    chip = chip_of(board)
    if chip is not None:
        arguments += [
            "-c",
            f"if {{([lindex [read_memory {chip.address:#x} 32 1] 0] & {chip.mask:#x}) "
            f"!= {chip.value:#x}}} {{echo {{{_CHIP_MARK}}}; shutdown error}}",
        ]
    return [*arguments, "-c", f"program {{{job.path.resolve()}}} verify reset", "-c", "shutdown"]


def _explained(board: Board, output: str) -> str:
    for text, meaning in _MEANINGS:
        if text in output:
            return meaning.format(board=board.name)
    errors = re.findall(r"Error: (.+)", output)
    return f"openocd failed: {errors[0].strip() if errors else 'it did not verify what it wrote'}"
