"""Ways to write firmware to a board: `zeroskip flash`.

A runner says what it can do and what it needs, plans without touching anything, and writes.
What would go wrong is found before the first byte: a tool that is missing, no board, two of them,
another chip than the board's.
"""

from __future__ import annotations

from zeroskip.boards import Board
from zeroskip.errors import FlashError
from zeroskip.runners.base import Capabilities, Job, Runner
from zeroskip.runners.gdb import GdbRunner
from zeroskip.runners.openocd import OpenOcdRunner
from zeroskip.runners.pyocd import PyOcdRunner
from zeroskip.runners.stm32 import Stm32Runner
from zeroskip.runners.uf2 import Uf2Runner

__all__ = ["RUNNERS", "Capabilities", "Job", "Runner", "choose"]

RUNNERS: dict[str, Runner] = {
    runner.name: runner
    for runner in (PyOcdRunner(), OpenOcdRunner(), Uf2Runner(), Stm32Runner(), GdbRunner())
}
"""In the order in which they are tried."""


def choose(board: Board, job: Job, wanted: str | None = None) -> Runner:
    """The runner of that name, or the first that the board, the job's options and what is
    installed allow. Raises FlashError, which says why each does not."""
    if wanted is not None:
        if wanted not in RUNNERS:
            raise FlashError(f"no runner '{wanted}': runners are {', '.join(RUNNERS)}")
        reason = RUNNERS[wanted].refuses(board, job)
        if reason is not None:
            raise FlashError(f"{wanted} cannot write {board.name}: {reason}")
        return RUNNERS[wanted]
    reasons = []
    for runner in RUNNERS.values():
        reason = runner.refuses(board, job)
        if reason is None:
            return runner
        reasons.append(f"{runner.name}: {reason}")
    raise FlashError(f"nothing can write {board.name}; {'; '.join(reasons)}")
