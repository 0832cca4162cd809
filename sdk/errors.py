"""The one exception tree of zeroskip.

This module is a leaf: it imports nothing, and every part of the package (converters and
boards included) raises these. A message is one line that names the thing, the value, the
limit and the remedy; the command line prints it as it is. `exit_status` is what the
command line exits with: 2 for bad usage or bad input, 1 for a failed run.
"""


class ZeroSkipError(Exception):
    """Root of every error that zeroskip raises on purpose."""

    exit_status = 2


class ModelError(ZeroSkipError):
    """A source model (TFLite, PyTorch) that is malformed."""


class UnsupportedError(ModelError):
    """An operator, dtype or shape that zeroskip does not implement."""


class FormatError(ZeroSkipError):
    """Bytes that are not a valid .zsk container."""


class InputError(ZeroSkipError):
    """An argument or an input array that does not fit what it is for."""


class BoardError(ZeroSkipError):
    """A board description that is malformed, or a board that does not exist."""


class FitError(ZeroSkipError):
    """A model that does not fit the board's flash or RAM."""


class GoalError(ZeroSkipError):
    """A compression ratio or accuracy that a run could not reach."""

    exit_status = 1


class MissingToolError(ZeroSkipError):
    """A program or optional package that the task needs is not installed."""

    exit_status = 1


class ToolError(ZeroSkipError):
    """A program that zeroskip called has failed."""

    exit_status = 1


class FlashError(ZeroSkipError):
    """Firmware that could not be written to a board, or did not verify."""

    exit_status = 1


class MeasureError(ZeroSkipError):
    """A board or an instrument that does not answer, or answers something else."""

    exit_status = 1


class EmulationError(ZeroSkipError):
    """An emulated run that crashed, hung, or gave other bits than the host."""

    exit_status = 1


class RuntimeStatusError(ZeroSkipError):
    """The C runtime refused; `status` is its enum zs_status."""

    exit_status = 1

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
