"""Through a gdb server: QEMU's, OpenOCD's, pyOCD's, a J-Link's.

The remote serial protocol is that of the GDB manual, appendix E ("Remote Protocol"): memory map
and flash commands (vFlashErase, vFlashWrite, vFlashDone), memory access (m, M), qRcmd.
"""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Final

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

_TIMEOUT_S: Final = 30.0
_CHUNK: Final = 512  # bytes in a packet: as hexadecimal well below every server's limit
_MAX_REPLY: Final = 1 << 20


class GdbRunner:
    """`--gdb HOST:PORT`."""

    name = "gdb"
    capabilities = Capabilities(verifies=True, checks_chip=True, starts=True)

    def refuses(self, board: Board, job: Job) -> str | None:
        if job.gdb is None:
            return "needs --gdb HOST:PORT, where a gdb server listens"
        host, _, port = job.gdb.rpartition(":")
        return None if host and port.isdigit() and int(port) < 65536 else "--gdb wants HOST:PORT"

    def plan(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        return [
            f"connect to the gdb server at {job.gdb}",
            *_chip_plan(board),
            *(f"write and read back {line}" for line in job.summary()),
            "reset and run",
        ]

    def write(self, board: Board, job: Job) -> list[str]:
        check_fits(board, job)
        assert job.gdb is not None
        with GdbClient(job.gdb) as client:
            chip = chip_of(board)
            if chip is not None:
                word = client.read(chip.address, 4)
                check_chip(board, int.from_bytes(word, "little"), chip)
            flash = client.flash_blocks()
            for address, data in job.pieces:
                client.load(address, data, flash)
            client.finish_flash()
            for address, data in job.pieces:
                check_readback(data, client.read(address, len(data)), address)
            client.reset()
            client.resume()
        return [f"{job.gdb}: wrote and read back {line}" for line in job.summary()]


def _chip_plan(board: Board) -> list[str]:
    chip = chip_of(board)
    if chip is None:
        return []
    return [f"check that {chip.address:#010x} & {chip.mask:#x} is {chip.value:#x}"]


@dataclass(frozen=True)
class FlashBlocks:
    """A range of flash and the size of what it erases at once."""

    start: int
    size: int
    block: int


class GdbClient:
    """A connection to a gdb server. Every error is a FlashError of one line."""

    def __init__(self, address: str) -> None:
        self._where = address
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        except OSError as error:
            raise FlashError(f"no gdb server at {address}: {error.strerror or error}") from error
        self._buffer = b""
        self._flash_used = False
        self._features = ""

    def __enter__(self) -> GdbClient:
        self._features = self._ask("qSupported:hwbreak+")
        self._ask("?")
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        found = bytearray()
        while len(found) < size:
            count = min(_CHUNK, size - len(found))
            reply = self._ask(f"m{address + len(found):x},{count:x}")
            try:
                part = bytes.fromhex(reply)
            except ValueError:
                part = b""
            if not part or len(part) > count:
                raise FlashError(
                    f"the gdb server at {self._where} cannot read {address + len(found):#010x}"
                )
            found += part
        return bytes(found)

    def flash_blocks(self) -> list[FlashBlocks]:
        """The flash of the server's memory map, if it has one."""
        if "qXfer:memory-map:read+" not in self._features:
            return []
        text = ""
        while len(text) < _MAX_REPLY:
            reply = self._ask(f"qXfer:memory-map:read::{len(text):x},{_CHUNK:x}")
            text += reply[1:]
            if reply[:1] != "m":
                break
        try:
            root = ElementTree.fromstring(text[text.index("<memory-map") :])
            return [
                FlashBlocks(
                    int(memory.attrib["start"], 0),
                    int(memory.attrib["length"], 0),
                    int((memory.findtext("property") or "").strip(), 0),
                )
                for memory in root.iter("memory")
                if memory.attrib.get("type") == "flash"
            ]
        except (ValueError, KeyError, ElementTree.ParseError) as error:
            raise FlashError(
                f"the gdb server at {self._where} has a memory map that cannot be read"
            ) from error

    def load(self, address: int, data: bytes, flash: list[FlashBlocks]) -> None:
        """Write to RAM, or erase and write flash; the latter is done after `finish_flash`."""
        place = next((f for f in flash if f.start <= address < f.start + f.size), None)
        if place is not None:
            begin = address - (address - place.start) % place.block
            end = address + len(data)
            length = -(-(end - begin) // place.block) * place.block
            self._command(f"vFlashErase:{begin:x},{length:x}".encode(), "erase flash")
            self._flash_used = True
        for at in range(0, len(data), _CHUNK):
            part = data[at : at + _CHUNK]
            if place is not None:
                packet = f"vFlashWrite:{address + at:x}:".encode() + _escaped(part)
            else:
                packet = f"M{address + at:x},{len(part):x}:{part.hex()}".encode()
            self._command(packet, f"write at {address + at:#010x}")

    def finish_flash(self) -> None:
        if self._flash_used:
            self._command(b"vFlashDone", "finish writing flash")

    def reset(self) -> None:
        """Reset the board by the server's own command: "reset", or "system_reset" of QEMU."""
        said = ""
        for command in ("reset", "system_reset"):
            said = self._monitor(command)
            if "unknown" not in said.lower() and "invalid" not in said.lower():
                return
        raise FlashError(f"the gdb server at {self._where} cannot reset: {' '.join(said.split())}")

    def resume(self) -> None:
        """Run on, and let go."""
        self._command(b"D", "detach")

    def _command(self, packet: bytes, what: str) -> None:
        reply = self._exchange(packet)
        if reply != "OK":
            raise FlashError(f"the gdb server at {self._where} could not {what}: {reply or 'no'}")

    def _monitor(self, command: str) -> str:
        """A command of the server's own; what it said."""
        said = ""
        reply = self._send(f"qRcmd,{command.encode().hex()}".encode())
        while reply[:1] == "O" and reply != "OK":
            said += _text(reply[1:])
            reply = self._next()
        if reply[:1] == "E":
            raise FlashError(f"the gdb server at {self._where} cannot {command}: {reply}")
        return said if reply == "OK" else f"unknown command {command}"

    def _ask(self, text: str) -> str:
        return self._exchange(text.encode())

    def _exchange(self, packet: bytes) -> str:
        reply = self._send(packet)
        # Text of the program, and that it has stopped, come unasked.
        while reply != "OK" and reply[:1] in ("O", "T", "S") and packet != b"?":
            reply = self._next()
        return reply

    def _send(self, packet: bytes) -> str:
        framed = b"$" + packet + b"#" + f"{sum(packet) & 0xFF:02x}".encode()
        try:
            self._socket.sendall(framed)
        except OSError as error:
            raise FlashError(f"the gdb server at {self._where} is gone: {error}") from error
        return self._next()

    def _next(self) -> str:
        try:
            return self._packet()
        except OSError as error:
            raise FlashError(f"the gdb server at {self._where} is gone: {error}") from error

    def _packet(self) -> str:
        while True:
            begin = self._buffer.find(b"$")
            end = self._buffer.find(b"#", begin + 1) if begin >= 0 else -1
            if end >= 0 and len(self._buffer) >= end + 3:
                body = self._buffer[begin + 1 : end]
                self._buffer = self._buffer[end + 3 :]
                self._socket.sendall(b"+")
                return _unescaped(body).decode("latin-1")
            if len(self._buffer) > _MAX_REPLY:
                raise OSError("a reply without end")
            more = self._socket.recv(65536)
            if not more:
                raise OSError("it closed the connection")
            self._buffer += more


def _text(reply: str) -> str:
    """What a server says in hexadecimal."""
    try:
        return bytes.fromhex(reply).decode(errors="replace")
    except ValueError:
        return reply


def _escaped(data: bytes) -> bytes:
    """Binary data as packets carry it."""
    out = bytearray()
    for byte in data:
        if byte in b"$#}*":
            out += bytes((0x7D, byte ^ 0x20))
        else:
            out.append(byte)
    return bytes(out)


def _unescaped(body: bytes) -> bytes:
    out = bytearray()
    at = 0
    while at < len(body):
        byte = body[at]
        if byte == 0x7D and at + 1 < len(body):  # }: escaped
            at += 1
            out.append(body[at] ^ 0x20)
        elif byte == 0x2A and at + 1 < len(body) and out:  # *: run-length
            at += 1
            out += out[-1:] * (body[at] - 29)
        else:
            out.append(byte)
        at += 1
    return bytes(out)
