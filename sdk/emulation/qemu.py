"""Running emulated firmware under qemu-system-arm, with trace.c as a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zeroskip.boards import Board
from zeroskip.emulation.profile import Marks, Profile, compile_trace, memory_shape, read_profile
from zeroskip.errors import EmulationError, ToolError
from zeroskip.tools import run_tool, tail

PROGRAM: Final = "qemu-system-arm"
_PLUGIN: Final = "trace.so"
_COUNTS: Final = "counts.txt"
_EXIT_STATUSES: Final = range(4)  # enum exit_status of main_emulated.c


def run(image: Path, board: Board, folder: Path, marks: Marks, timeout_s: float) -> Profile:
    """Run `image` in `folder`, which holds input.bin and receives result.bin.

    Returns the execution counts. Raises EmulationError if QEMU fails or time runs out.
    """
    # QEMU splits plugin arguments at commas: short names inside `folder` have none.
    (folder / _PLUGIN).symlink_to(compile_trace(qemu_plugin=True))
    arguments = ",".join(f"{name}={address}" for name, address in vars(marks).items())
    shape = memory_shape(board)
    if shape is not None:
        arguments += ",memory=" + ":".join(map(str, shape))
    try:
        done = run_tool(
            [
                PROGRAM, "-M", board.emulation.machine, "-display", "none", "-monitor", "none",
                "-serial", "none", "-semihosting-config", "enable=on,target=native",
                "-kernel", image, "-plugin", f"./{_PLUGIN},out={_COUNTS},{arguments}",
            ],
            timeout_s=timeout_s,
            cwd=folder,
            accept=lambda status: True,
        )  # fmt: skip
    except ToolError as error:
        raise EmulationError(f"the firmware did not end: {error}") from error
    if done.returncode not in _EXIT_STATUSES:
        raise EmulationError(
            f"QEMU ended with status {done.returncode} on {board.name}{tail(done.stdout)}"
        )
    if done.returncode != 0:
        return {}
    return read_profile(folder / _COUNTS)
