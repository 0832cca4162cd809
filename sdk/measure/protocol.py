"""The MLPerf Tiny test harness's serial protocol, from the host's side.

Commands end with "%"; answers are lines, the last of which is "m-ready"; errors are
"e-[what]" (github.com/mlcommons/tiny, benchmark/api). Commands that begin with "zs-" are those of
zeroskip's own firmware (runtime_c/port/main_harness.c).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from zeroskip.errors import MeasureError

LOAD_BYTES: Final = 31  # in a db command: what the harness sends in performance mode
_ANSWER_TIMEOUT_S: Final = 5.0
_ASK_AGAIN_S: Final = 1.0  # a board that was just supplied misses what is sent while it starts
_SILENCE_READS: Final = 100  # of which one is empty on a line that waits for a command
_MAX_LINE: Final = 1 << 20  # the results of an output of 100,000 numbers
_NOISE: Final = "the serial line carries something else than the harness"


class Line(Protocol):
    """A serial line, as pyserial has it: `read` gives what came within its timeout, perhaps
    nothing."""

    def read(self, size: int) -> bytes: ...

    def write(self, data: bytes) -> object: ...


@dataclass(frozen=True)
class Info:
    """What the firmware says of itself. `model_crc` is the checksum at the end of a container."""

    board: str
    core: str
    clock_hz: int
    model_crc: int
    model_bytes: int
    input_bytes: int
    keeps_input: bool
    stack_bytes: int


@dataclass(frozen=True)
class OpCycles:
    index: int
    cycles: int
    macs_executed: int


@dataclass(frozen=True)
class Inferences:
    """`count` inferences in one go: the harness's microseconds between its timestamps (None in
    energy mode), the core's cycles in the runtime for all of them, the first output as numbers."""

    count: int
    microseconds: int | None
    cycles: int
    results: tuple[float, ...]


class Device:
    """Firmware at the other end of a line. Every failure is a MeasureError of one line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._pending = b""

    def synchronise(self, timeout_s: float = _ANSWER_TIMEOUT_S) -> None:
        """Get an answer, whatever was sent before."""
        deadline = time.monotonic() + timeout_s
        ready = False
        while not ready:
            self._line.write(b"%")
            again = min(deadline, time.monotonic() + _ASK_AGAIN_S)
            while not ready and (line := self._read_line(again)) is not None:
                ready = line == "m-ready"
            if not ready and time.monotonic() >= deadline:
                raise _silent("answer")
        for _ in range(_SILENCE_READS):
            if not self._line.read(256):
                self._pending = b""
                return
        raise MeasureError(_NOISE)

    def command(self, text: str, timeout_s: float = _ANSWER_TIMEOUT_S) -> list[str]:
        """The lines that answer a command, without the last. Raises MeasureError for those that
        begin with "e-", and if no answer is complete in time."""
        self._line.write(text.encode() + b"%")
        deadline = time.monotonic() + timeout_s
        lines: list[str] = []
        error = None
        while error is None or not error.startswith("e-[HardFault"):  # which nothing follows
            line = self._read_line(deadline)
            if line is None and error is None:
                raise _silent(f"answer '{text[:20]}'")
            if line is None or line == "m-ready":
                break
            lines.append(line)
            if line.startswith("e-["):
                error = error or line
        if error is not None:
            raise MeasureError(f"the board answers '{text[:20]}' with {error[3:].rstrip(']')}")
        return lines

    def name(self) -> str:
        return _field(self.command("name"), r"m-name-(.+)", "its name")

    def info(self) -> Info:
        lines = self.command("zs-info")

        def value(key: str) -> str:
            return _field(lines, rf"m-zs-{key}-\[(.+)\]", key)

        try:
            return Info(
                board=value("board"),
                core=value("core"),
                clock_hz=int(value("clock-hz")),
                model_crc=int(value("model-crc"), 16),
                model_bytes=int(value("model-bytes")),
                input_bytes=int(value("input-bytes")),
                keeps_input=value("keeps-input") == "1",
                stack_bytes=int(value("stack")),
            )
        except ValueError as error:
            raise MeasureError(f"the board's answer to 'zs-info' is damaged: {error}") from error

    def energy_mode(self, on: bool) -> None:
        """Let timestamps be edges of the trigger pin, or lines."""
        self.command(f"zs-mode {'energy' if on else 'performance'}")

    def load(self, data: bytes) -> None:
        """Load all inputs, one behind the other."""
        self.command(f"db load {len(data)}")
        lines: list[str] = []
        for at in range(0, len(data), LOAD_BYTES):
            lines = self.command(f"db {data[at : at + LOAD_BYTES].hex()}")
        if "m-load-done" not in lines:
            raise MeasureError("the board did not take the whole input")

    def infer(self, count: int, warmups: int, timeout_s: float) -> Inferences:
        lines = self.command(f"infer {count} {warmups}", timeout_s)
        stamps = [int(m[1]) for line in lines if (m := re.fullmatch(r"m-lap-us-(\d+)", line))]
        results = _field(lines, r"m-results-\[([-.,\d]*)\]", "results")
        cycles = _field(self.command("zs-info"), r"m-zs-cycles-\[(\d+)\]", "cycles")
        try:
            return Inferences(
                count=count,
                microseconds=stamps[1] - stamps[0] if len(stamps) == 2 else None,
                cycles=int(cycles),
                results=tuple(float(v) for v in results.split(",")),
            )
        except ValueError as error:
            raise MeasureError(f"the board's results came damaged: {error}") from error

    def ops(self, timeout_s: float) -> list[OpCycles]:
        """Cycles of each op of one inference. The hook around it is counted with it."""
        pattern = re.compile(r"m-zs-op-\[(\d+),(\d+),(\d+)\]")
        found: list[OpCycles] = []
        for line in self.command("zs-ops", timeout_s):
            m = pattern.fullmatch(line)
            if m is None or int(m[1]) != len(found):
                raise MeasureError("the board's cycles of ops came damaged")
            found.append(OpCycles(*(int(n) for n in m.groups())))
        return found

    def outputs(self, sizes: Sequence[int]) -> list[bytes]:
        """The outputs of the last inference, of so many bytes each."""
        pattern = re.compile(r"m-zs-output-\[(\d+),(\d+),([0-9a-f]*)\]")
        found = [bytearray() for _ in sizes]
        for line in self.command("zs-output", _ANSWER_TIMEOUT_S + sum(sizes) / 1000):
            m = pattern.fullmatch(line)
            if m is None or int(m[1]) >= len(sizes) or int(m[2]) != len(found[int(m[1])]):
                raise MeasureError("the board's outputs came damaged")
            found[int(m[1])] += bytes.fromhex(m[3])
        if [len(f) for f in found] != list(sizes):
            raise MeasureError("the board's outputs came incomplete")
        return [bytes(f) for f in found]

    def _read_line(self, deadline: float) -> str | None:
        """The next line, None if it is not complete in time."""
        while b"\n" not in self._pending:
            if len(self._pending) > _MAX_LINE:
                raise MeasureError(_NOISE)
            if time.monotonic() >= deadline:
                return None
            self._pending += self._line.read(256)
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode("ascii", "replace").strip()


def _silent(what: str) -> MeasureError:
    return MeasureError(
        f"the board did not {what} in time: does it run the firmware, is it the port?"
    )


def _field(lines: Sequence[str], pattern: str, what: str) -> str:
    for line in lines:
        m = re.fullmatch(pattern, line)
        if m is not None:
            return m[1]
    raise MeasureError(f"the board did not tell {what}: is it firmware of this zeroskip?")
