"""Through a gdb server: QEMU's, OpenOCD's, pyOCD's, a J-Link's.

The remote serial protocol is that of the GDB manual, appendix E ("Remote Protocol"): memory map
and flash commands (vFlashErase, vFlashWrite, vFlashDone), memory access (m, M), qRcmd.
"""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
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
_CHUNK: Final = 512  # the most bytes in a packet; a server may ask for less
_HEAD: Final = 32  # characters around them: command, address, length, checksum
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
            _check_map(board, job, flash, job.gdb)
            client.load(job.pieces, flash)
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


def _check_map(board: Board, job: Job, flash: Sequence[FlashBlocks], where: str) -> None:
    """Raise FlashError if the server knows flash, and some of the firmware is not in it."""
    for address, data in job.pieces if flash else ():
        end = address + len(data)
        while address < end:
            region = next((f for f in flash if f.holds(address)), None)
            if region is None:
                raise FlashError(
                    f"the chip at {where} has no flash at {address:#010x}: it is not that of "
                    f"{board.name}; nothing was written"
                )
            address = region.start + region.size


@dataclass(frozen=True)
class FlashBlocks:
    """A range of flash and the size of what it erases at once."""

    start: int
    size: int
    block: int

    def holds(self, address: int) -> bool:
        return self.start <= address < self.start + self.size

    def touched(self, pieces: Sequence[tuple[int, bytes]]) -> list[tuple[int, int]]:
        """(address, size) of the runs of blocks that the pieces touch."""
        blocks: set[int] = set()
        for address, data in pieces:
            begin = max(address - self.start, 0)
            end = min(address + len(data) - self.start, self.size)
            blocks.update(range(begin // self.block, -(-end // self.block)) if begin < end else ())
        runs: list[tuple[int, int]] = []
        for block in sorted(blocks):
            address = self.start + block * self.block
            if runs and sum(runs[-1]) == address:
                runs[-1] = (runs[-1][0], runs[-1][1] + self.block)
            else:
                runs.append((address, self.block))
        return runs


class GdbClient:
    """A connection to a gdb server. Every error is a FlashError of one line."""

    def __init__(self, address: str) -> None:
        self._where = address
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        except OSError as error:
            raise FlashError(f"no gdb server at {address}: {error.strerror or error}") from error
        # Each packet follows a lone "+": without this it waits 40 ms for that to be acknowledged.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._chunk = _CHUNK
        self._features = ""

    def __enter__(self) -> GdbClient:
        self._features = self._ask("qSupported:hwbreak+")
        for feature in self._features.split(";"):
            if feature.startswith("PacketSize="):
                # Two characters for a byte, or as many where it is escaped, and what goes before.
                room = (_number(feature[11:], 16, 2 * _CHUNK) - _HEAD) // 2
                self._chunk = max(1, min(_CHUNK, room))
        self._ask("?")
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        found = bytearray()
        while len(found) < size:
            count = min(self._chunk, size - len(found))
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
            reply = self._ask(f"qXfer:memory-map:read::{len(text):x},{self._chunk:x}")
            text += reply[1:]
            if reply[:1] != "m":
                break
        try:
            root = ElementTree.fromstring(text[text.index("<memory-map") :])
            found = [
                FlashBlocks(
                    int(memory.attrib["start"], 0),
                    int(memory.attrib["length"], 0),
                    int((memory.findtext("property") or "").strip(), 0),
                )
                for memory in root.iter("memory")
                if memory.attrib.get("type") == "flash"
            ]
            if any(f.block <= 0 or f.size < 0 for f in found):
                raise ValueError("no block size")
            return found
        except (ValueError, KeyError, ElementTree.ParseError) as error:
            raise FlashError(
                f"the gdb server at {self._where} has a memory map that cannot be read"
            ) from error

    def load(self, pieces: Sequence[tuple[int, bytes]], flash: Sequence[FlashBlocks]) -> None:
        """Write pieces (address, data). Flash is erased first, every block that is touched once:
        two pieces may share one, and a piece may reach over regions with blocks of other sizes."""
        for region in flash:
            for start, size in region.touched(pieces):
                self._command(f"vFlashErase:{start:x},{size:x}".encode(), "erase flash")
        in_flash = False
        for address, data in pieces:
            for at in range(0, len(data), self._chunk):
                part, here = data[at : at + self._chunk], address + at
                if any(region.holds(here) for region in flash):
                    packet = f"vFlashWrite:{here:x}:".encode() + _escaped(part)
                    in_flash = True
                else:
                    packet = f"M{here:x},{len(part):x}:{part.hex()}".encode()
                self._command(packet, f"write at {here:#010x}")
        if in_flash:
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


def _number(text: str, base: int, otherwise: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        return otherwise


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
