"""Ways to write firmware to a board: `zeroskip flash`.

A runner says what it can do and what it needs, plans without touching anything, and writes.
What would go wrong is found before the first byte: a tool that is missing, no board, two of them,
another chip than the board's. Runners of other packages come from entry points of the group
"zeroskip.runners", each "module:attribute" of a Runner; they are used by name.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from zeroskip.boards import Board
from zeroskip.errors import FlashError
from zeroskip.runners.base import Capabilities, Job, Runner
from zeroskip.runners.gdb import GdbRunner
from zeroskip.runners.openocd import OpenOcdRunner
from zeroskip.runners.pyocd import PyOcdRunner
from zeroskip.runners.stm32 import Stm32Runner
from zeroskip.runners.uf2 import Uf2Runner

__all__ = ["RUNNERS", "Capabilities", "Job", "Runner", "choose", "runner", "runner_names"]

RUNNERS: dict[str, Runner] = {
    runner.name: runner
    for runner in (Uf2Runner(), PyOcdRunner(), OpenOcdRunner(), Stm32Runner(), GdbRunner())
}
"""In the order in which they are tried."""

ENTRY_POINTS: Final = "zeroskip.runners"
# The option that names where to write, and who writes there.
_BY_OPTION: Final = {"gdb": "gdb", "drive": "uf2", "port": "stm32"}


def runner_names() -> list[str]:
    """Every runner there is: the built-in ones in the order in which they are tried."""
    return [*RUNNERS, *sorted(set(_installed()) - set(RUNNERS))]


def runner(name: str) -> Runner:
    """The runner called `name`, built-in ones first. Raises FlashError if there is none, or if
    an installed one cannot be loaded."""
    if name in RUNNERS:
        return RUNNERS[name]
    if name not in (installed := _installed()):
        raise FlashError(f"no runner '{name}': runners are {', '.join(runner_names())}")
    try:
        found: Any = installed[name].load()
    except Exception as error:  # a plugin may fail in any way
        raise FlashError(f"runner '{name}' cannot be loaded: {error}") from error
    if not isinstance(found, Runner):
        raise FlashError(f"runner '{name}' is a {type(found).__name__}, not a Runner")
    return found


def choose(board: Board, job: Job, wanted: str | None = None) -> Runner:
    """The runner of that name; else the one for the place that the job names (a gdb server, a
    drive, a port); else the first that the board, the job's options and what is installed allow.
    Raises FlashError, which says why each does not."""
    if wanted is None:
        wanted = next((name for key, name in _BY_OPTION.items() if getattr(job, key)), None)
    if wanted is not None:
        chosen = runner(wanted)
        reason = chosen.refuses(board, job)
        if reason is not None:
            raise FlashError(f"{wanted} cannot write {board.name}: {reason}")
        return chosen
    reasons = []
    for candidate in RUNNERS.values():
        reason = candidate.refuses(board, job)
        if reason is None:
            return candidate
        reasons.append(f"{candidate.name}: {reason}")
    raise FlashError(f"nothing can write {board.name}; {'; '.join(reasons)}")


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
