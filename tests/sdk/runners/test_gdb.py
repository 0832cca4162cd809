"""The gdb runner against QEMU's gdb server, and against a server that misbehaves."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flashable import board, job

from zeroskip import boards
from zeroskip.boards import ChipId
from zeroskip.errors import FlashError
from zeroskip.runners.gdb import GdbClient, GdbRunner

RUNNER = GdbRunner()
needs_qemu = pytest.mark.tool("qemu-system-arm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Qemu:
    """A stopped machine with a gdb server; its serial port goes to a file."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.serial = folder / "serial.txt"
        self._process = subprocess.Popen(
            ["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-S",
             "-gdb", f"tcp::{port}", "-serial", f"file:{self.serial}"],
        )  # fmt: skip
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qemu]:
    machine = Qemu(tmp_path)
    yield machine
    machine.stop()


@needs_qemu
def test_firmware_is_loaded_read_back_and_runs(qemu: Qemu, tmp_path: Path) -> None:
    of = board("mps2-an386", ChipId(0xE000ED00, 0xFFF0, 0xC240))  # CPUID: Cortex-M4
    work = job(tmp_path, of, gdb=qemu.address)
    plan = RUNNER.plan(of, work)
    assert any("0xe000ed00" in line for line in plan)
    done = RUNNER.write(of, work)
    assert len(done) == len(work.pieces) and "wrote and read back" in done[0]
    for _ in range(200):
        if qemu.serial.exists() and "done" in qemu.serial.read_text():
            break
        time.sleep(0.05)
    assert "zeroskip" in qemu.serial.read_text()
    with GdbClient(qemu.address) as client:
        address, data = work.pieces[0]
        assert client.read(address, len(data)) == data


@needs_qemu
def test_another_chip_is_left_alone(qemu: Qemu, tmp_path: Path) -> None:
    of = board("mps2-an386", ChipId(0xE000ED00, 0xFFF0, 0xC270))  # Cortex-M7
    work = job(tmp_path, of, gdb=qemu.address)
    with pytest.raises(FlashError, match=r"another chip .* 0xc240, not 0xc270; nothing was"):
        RUNNER.write(of, work)
    with GdbClient(qemu.address) as client:
        assert client.read(work.pieces[0][0], 64) == bytes(64)


def test_firmware_for_other_addresses_is_refused(tmp_path: Path) -> None:
    work = job(tmp_path, board("mps2-an386"), gdb="localhost:1")
    with pytest.raises(FlashError, match="not in its flash"):
        RUNNER.plan(board("nucleo-l4r5zi"), work)


def test_no_server_is_one_line(tmp_path: Path) -> None:
    of = boards.load("mps2-an386")
    work = job(tmp_path, of, gdb=f"127.0.0.1:{free_port()}")
    with pytest.raises(FlashError, match=r"no gdb server at 127\.0\.0\.1"):
        RUNNER.write(of, work)
    assert "needs --gdb" in (RUNNER.refuses(of, replace(work, gdb=None)) or "")
    assert "HOST:PORT" in (RUNNER.refuses(of, replace(work, gdb="localhost")) or "")


class Server:
    """A gdb server with memory, whose answers a test may change."""

    def __init__(self, memory_map: str = "") -> None:
        self.memory = bytearray(1 << 20)
        self.flash_log: list[str] = []
        self.change: Callable[[bytes, bytes], bytes] = lambda packet, answer: answer
        self._map = memory_map
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        data = b""
        with connection:
            while True:
                more = connection.recv(4096)
                if not more:
                    return
                data += more
                while b"#" in data and len(data) >= data.index(b"#") + 3:
                    begin, end = data.index(b"$"), data.index(b"#")
                    packet, data = data[begin + 1 : end], data[end + 3 :]
                    answer = self.change(packet, self._answer(packet))
                    sums = f"#{sum(answer) & 255:02x}".encode()
                    connection.sendall(b"+$" + answer + sums)

    def _answer(self, packet: bytes) -> bytes:
        if packet.startswith(b"qSupported"):
            return b"PacketSize=1000" + (b";qXfer:memory-map:read+" if self._map else b"")
        if packet.startswith(b"qXfer"):
            start, length = (int(n, 16) for n in packet.rsplit(b":", 1)[1].split(b","))
            part = self._map[start : start + length]
            return (b"m" if start + length < len(self._map) else b"l") + part.encode()
        if packet.startswith(b"m"):
            start, length = (int(n, 16) for n in packet[1:].split(b","))
            return self.memory[start : start + length].hex().encode()
        if packet.startswith(b"vFlashErase"):
            start, length = (int(n, 16) for n in packet.split(b":")[1].split(b","))
            self.memory[start : start + length] = b"\xff" * length
        if packet.startswith(b"vFlashWrite"):
            _, address, body = packet.split(b":", 2)
            out = bytearray()
            escaped = False
            for byte in body:
                out += bytes((byte ^ 0x20,)) if escaped else bytes((byte,)) if byte != 0x7D else b""
                escaped = byte == 0x7D and not escaped
            self.memory[int(address, 16) : int(address, 16) + len(out)] = out
        if packet.startswith(b"M"):
            head, body = packet[1:].split(b":")
            start = int(head.split(b",")[0], 16)
            self.memory[start : start + len(body) // 2] = bytes.fromhex(body.decode())
        if packet.startswith(b"vFlash"):
            self.flash_log.append(packet.split(b":")[0].decode())
        return b"S05" if packet == b"?" else b"OK"


MAP = """<?xml version="1.0"?><memory-map><memory type="flash" start="0x0" length="0x40000">
<property name="blocksize">0x1000</property></memory>
<memory type="ram" start="0x20000000" length="0x4000"/></memory-map>"""


def test_flash_is_erased_by_blocks_and_written(tmp_path: Path) -> None:
    of = boards.load("mps2-an386")
    server = Server(MAP)
    work = job(tmp_path, of, gdb=server.address)
    RUNNER.write(of, work)
    assert server.flash_log[0] == "vFlashErase" and server.flash_log[-1] == "vFlashDone"
    for address, data in work.pieces:
        assert server.memory[address : address + len(data)] == data


@pytest.mark.parametrize(
    ("when", "answer", "message"),
    [
        (b"M", b"E01", r"could not write at 0x[0-9a-f]+: E01"),
        (b"m", b"E14", "cannot read"),
        (b"qRcmd", b"E01", "cannot reset: E01"),
        (b"D", b"E02", "could not detach"),
    ],
)
def test_a_server_that_fails_is_one_line(
    when: bytes, answer: bytes, message: str, tmp_path: Path
) -> None:
    of = boards.load("mps2-an386")
    server = Server()
    server.change = lambda packet, usual: answer if packet.startswith(when) else usual
    with pytest.raises(FlashError, match=message) as caught:
        RUNNER.write(of, job(tmp_path, of, gdb=server.address))
    assert "\n" not in str(caught.value)


def test_what_reads_back_otherwise_is_found(tmp_path: Path) -> None:
    of = boards.load("mps2-an386")
    server = Server()
    work = job(tmp_path, of, gdb=server.address)
    address = work.pieces[0][0] + 512

    def flip(packet: bytes, usual: bytes) -> bytes:
        """The fifth byte of one packet reads as another."""
        if not packet.startswith(f"m{address:x},".encode()):
            return usual
        return usual[:8] + (b"1" if usual[8:9] == b"0" else b"0") + usual[9:]

    server.change = flip
    with pytest.raises(FlashError, match=f"verification failed at {address + 4:#010x}"):
        RUNNER.write(of, work)


def test_a_broken_memory_map_is_one_line(tmp_path: Path) -> None:
    of = boards.load("mps2-an386")
    server = Server("<memory-map><memory type='flash'>")
    with pytest.raises(FlashError, match="memory map that cannot be read"):
        RUNNER.write(of, job(tmp_path, of, gdb=server.address))
