"""The serial bootloader in the ROM of STM32: AN3155 over 8 bits, even parity.

The board has to be started in its bootloader (BOOT0 high).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from zeroskip.boards import Board
from zeroskip.errors import FlashError
from zeroskip.runners.base import Capabilities, Job, check_fits, check_readback
from zeroskip.runners.ports import find_port, serial_module
from zeroskip.tools import has_package

BAUD: Final = 115_200
CHUNK: Final = 256  # AN3155: the most bytes of a write or read
_ERASED: Final = 0xFF
_ACK: Final = 0x79
_NACK: Final = 0x1F
_TIMEOUT_S: Final = 1.0
_ATTEMPTS: Final = 3
_ERASE_TIMEOUT_S: Final = 60.0
_SYNC: Final = 0x7F
_GET: Final = 0x00
_GET_ID: Final = 0x02
_READ: Final = 0x11
_GO: Final = 0x21
_WRITE: Final = 0x31
_ERASE: Final = 0x43
_EXTENDED_ERASE: Final = 0x44


class Stm32Runner:
    """A serial port, by --port or by the board's USB ids."""

    name = "stm32"
    capabilities = Capabilities(verifies=True, checks_chip=True, starts=True)

    def refuses(self, board: Board, job: Job) -> str | None:
        if board.programming is None or board.programming.stm32_product is None:
            return "it has no serial bootloader that is known here"
        if job.port is None:
            return "needs --port, the serial port of the bootloader (BOOT0 high at reset)"
        if not has_package("serial"):
            return "pyserial is not installed (pip install 'zeroskip[flash]')"
        return None

    def plan(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        assert board.programming is not None
        return [
            f"{job.port}: {BAUD} baud, 8E1; check that the product id is "
            f"{board.programming.stm32_product:#05x}",
            "erase all flash",
            *(f"write and read back {line}" for line in job.summary()),
            f"go to {job.blocks(CHUNK, fill=_ERASED)[0][0]:#010x}",
        ]

    def write(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        assert board.programming is not None
        port = find_port(board, job.port)
        # Whole blocks: some chips write 8 or 16 bytes at once, and each place only once.
        blocks = job.blocks(CHUNK, fill=_ERASED)
        with _opened(port) as serial:
            loader = Bootloader(serial, port)
            commands = loader.connect()
            product = loader.product_id()
            if product != board.programming.stm32_product:
                raise FlashError(
                    f"another chip than that of {board.name}: product id {product:#05x}, not "
                    f"{board.programming.stm32_product:#05x}; nothing was written"
                )
            loader.read(board.flash.start, 4)  # refused where the flash is protected
            loader.erase_all(extended=_EXTENDED_ERASE in commands)
            # The vector table last: half-way there is no program that would start.
            for address, data in reversed(blocks):
                loader.write(address, data)
            for address, data in blocks:
                check_readback(data, loader.read(address, CHUNK), address)
            loader.go(blocks[0][0])
        return [f"{port}: wrote and read back {line}" for line in job.summary()]


@contextlib.contextmanager
def _opened(port: str) -> Iterator[Any]:
    module = serial_module()
    try:
        with module.Serial(port, BAUD, parity="E", timeout=_TIMEOUT_S) as serial:
            yield serial
    except module.SerialException as error:
        raise FlashError(f"{port}: {error}") from error


class Bootloader:
    """The protocol of AN3155 on an open port. Every error is a FlashError of one line."""

    def __init__(self, serial: Any, port: str) -> None:
        self._serial = serial
        self._port = port

    def connect(self) -> bytes:
        """Find the baud rate; the commands that the bootloader has."""
        self._serial.reset_input_buffer()
        answer = b""
        for _ in range(_ATTEMPTS):
            self._serial.write(bytes((_SYNC,)))
            answer = self._serial.read(1)
            if answer:
                break
        # One that is connected already takes the byte for half a command, and says no.
        if answer not in (bytes((_ACK,)), bytes((_NACK,))):
            raise FlashError(
                f"no STM32 bootloader answers on {self._port}: set BOOT0 high and reset the board"
            )
        try:
            return self._commands()
        except FlashError:
            # It answered late, and has half a command since: the second of two _SYNC. What it
            # was asked now was its other half and half of the next, which one byte completes.
            self._serial.write(bytes((_SYNC,)))
            if self._serial.read(1) != bytes((_NACK,)):
                raise
            return self._commands()

    def _commands(self) -> bytes:
        self._command(_GET, "list its commands")
        count = self._take(1)[0]
        found = self._take(count + 1)
        self._acknowledged("list its commands")
        return found[1:]

    def product_id(self) -> int:
        self._command(_GET_ID, "tell its product id")
        count = self._take(1)[0]
        found = int.from_bytes(self._take(count + 1), "big")
        self._acknowledged("tell its product id")
        return found

    def erase_all(self, *, extended: bool) -> None:
        what = "erase its flash (is it write-protected?)"
        self._command(_EXTENDED_ERASE if extended else _ERASE, what)
        # AN3155 3.7 and 3.8: a global mass erase, and its checksum.
        self._serial.write(b"\xff\xff\x00" if extended else b"\xff\x00")
        self._acknowledged(what, _ERASE_TIMEOUT_S)

    def write(self, address: int, data: bytes) -> None:
        """Up to 256 bytes, whose number is a multiple of 4."""
        what = f"write at {address:#010x}"
        self._command(_WRITE, what)
        self._address(address, what)
        body = bytes((len(data) - 1,)) + data
        self._serial.write(body + bytes((_xor(body),)))
        self._acknowledged(what)

    def read(self, address: int, size: int) -> bytes:
        """1 to 256 bytes."""
        what = f"read at {address:#010x}"
        self._command(_READ, f"{what} (its flash is protected; removing that erases it)")
        self._address(address, what)
        self._serial.write(bytes((size - 1, (size - 1) ^ 0xFF)))
        self._acknowledged(what)
        return self._take(size)

    def go(self, address: int) -> None:
        self._command(_GO, "start the firmware")
        self._address(address, "start the firmware")

    def _command(self, code: int, what: str) -> None:
        self._serial.write(bytes((code, code ^ 0xFF)))
        self._acknowledged(what)

    def _address(self, address: int, what: str) -> None:
        body = address.to_bytes(4, "big")
        self._serial.write(body + bytes((_xor(body),)))
        self._acknowledged(what)

    def _acknowledged(self, what: str, patience_s: float = _TIMEOUT_S) -> None:
        answer = b""
        for _ in range(round(patience_s / _TIMEOUT_S)):  # each read waits as long
            answer = self._serial.read(1)
            if answer:
                break
        if answer == bytes((_ACK,)):
            return
        said = "refused to" if answer == bytes((_NACK,)) else "did not answer when asked to"
        raise FlashError(f"the bootloader on {self._port} {said} {what}")

    def _take(self, size: int) -> bytes:
        found: bytes = self._serial.read(size)
        if len(found) != size:
            raise FlashError(f"the bootloader on {self._port} stopped in the middle of an answer")
        return found


def _xor(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
    return value
