"""Which boards are plugged in, by the USB ids of their serial ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from zeroskip.boards import Board
from zeroskip.errors import FlashError, MissingToolError
from zeroskip.runners.base import Job
from zeroskip.tools import has_package


@dataclass(frozen=True)
class Port:
    """A serial port: its device, and the serial number of its USB device, if it has one."""

    device: str
    usb: str
    serial_number: str | None


def serial_module(name: str = "serial") -> Any:
    """A module of pyserial. Raises MissingToolError."""
    if not has_package("serial"):
        raise MissingToolError("pyserial is not installed (pip install 'zeroskip[flash]')")
    return import_module(name)


def ports_of(board: Board) -> list[Port]:
    """The serial ports with the board's USB ids. Raises MissingToolError without pyserial."""
    known = () if board.programming is None else board.programming.usb
    listed: Sequence[Any] = serial_module("serial.tools.list_ports").comports()
    found = [
        Port(p.device, f"{p.vid:04x}:{p.pid:04x}", p.serial_number)
        for p in listed
        if p.vid is not None
    ]
    return [p for p in found if p.usb in known]


def find_port(board: Board, wanted: str | None) -> str:
    """The wanted port, or the one port of the board. Raises FlashError for none and for two."""
    if wanted is not None:
        return wanted
    found = ports_of(board)
    if not found:
        raise FlashError(f"no serial port of {board.name} is connected; name one with --port")
    if len(found) > 1:
        devices = ", ".join(p.device for p in found)
        raise FlashError(
            f"{len(found)} boards could be {board.name}: choose with --port: {devices}"
        )
    return found[0].device


def refuse_two_boards(board: Board, job: Job) -> None:
    """Raise FlashError if two boards could be meant and no probe is named. Without pyserial the
    tool that writes has to notice."""
    if job.probe is not None or not has_package("serial"):
        return
    probes = {p.serial_number or p.device for p in ports_of(board)}
    if len(probes) > 1:
        raise FlashError(
            f"{len(probes)} boards could be {board.name}: choose with --probe: "
            f"{', '.join(sorted(probes))}"
        )
