"""The gdb runner against QEMU's gdb server, and against a server that misbehaves."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from flashable import board, job, pieces_job

from zeroskip import boards
from zeroskip.boards import ChipId
from zeroskip.errors import FlashError, InputError
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
        if qemu.serial.exists() and "m-ready" in qemu.serial.read_text():
            break
        time.sleep(0.05)
    assert qemu.serial.read_text().split()[-2:] == ["m-init-done", "m-ready"]
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
    """A gdb server with memory, whose answers a test may change.

    Flash is as strict as a chip's: whole blocks are erased, and writing only clears bits.
    """

    def __init__(self, memory_map: str = "", packet_size: int = 0x1000) -> None:
        self.memory = bytearray(1 << 20)
        self.flash_log: list[str] = []
        self.packet_size = packet_size
        self.longest = 0
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
                    self.longest = max(self.longest, len(packet) + 4)
                    answer = self.change(packet, self._answer(packet))
                    sums = f"#{sum(answer) & 255:02x}".encode()
                    connection.sendall(b"+$" + answer + sums)

    def _answer(self, packet: bytes) -> bytes:
        if packet.startswith(b"qSupported"):
            return b"PacketSize=%x" % self.packet_size + (
                b";qXfer:memory-map:read+" if self._map else b""
            )
        if packet.startswith(b"qXfer"):
            start, length = (int(n, 16) for n in packet.rsplit(b":", 1)[1].split(b","))
            part = self._map[start : start + length]
            return (b"m" if start + length < len(self._map) else b"l") + part.encode()
        if packet.startswith(b"m"):
            start, length = (int(n, 16) for n in packet[1:].split(b","))
            return self.memory[start : start + length].hex().encode()
        if packet.startswith(b"vFlashErase"):
            start, length = (int(n, 16) for n in packet.split(b":")[1].split(b","))
            if not self._whole_blocks(start, length):
                return b"E01"
            self.memory[start : start + length] = b"\xff" * length
        if packet.startswith(b"vFlashWrite"):
            _, address, body = packet.split(b":", 2)
            out = bytearray()
            escaped = False
            for byte in body:
                out += bytes((byte ^ 0x20,)) if escaped else bytes((byte,)) if byte != 0x7D else b""
                escaped = byte == 0x7D and not escaped
            for at, byte in enumerate(out, int(address, 16)):
                self.memory[at] &= byte
        if packet.startswith(b"M"):
            head, body = packet[1:].split(b":")
            start = int(head.split(b",")[0], 16)
            self.memory[start : start + len(body) // 2] = bytes.fromhex(body.decode())
        if packet.startswith(b"vFlash"):
            self.flash_log.append(b":".join(packet.split(b":")[:2]).decode(errors="replace"))
        return b"S05" if packet == b"?" else b"OK"

    def _whole_blocks(self, start: int, length: int) -> bool:
        """Whether a range is whole blocks of one region of the map."""
        for region in ElementTree.fromstring(self._map).iter("memory"):
            at, size = int(region.attrib["start"], 0), int(region.attrib["length"], 0)
            block = int(region.findtext("property") or "0", 0)
            if block and at <= start and start + length <= at + size:
                return (start - at) % block == 0 and length % block == 0
        return False


def memory_map(*flash: tuple[int, int, int]) -> str:
    """Of flash regions (start, length, block size)."""
    regions = "".join(
        f'<memory type="flash" start="{start:#x}" length="{length:#x}">'
        f'<property name="blocksize">{block:#x}</property></memory>'
        for start, length, block in flash
    )
    ram = '<memory type="ram" start="0x20000000" length="0x4000"/>'
    return f'<?xml version="1.0"?><memory-map>{regions}{ram}</memory-map>'


MAP = memory_map((0, 0x40000, 0x1000))


def test_flash_is_erased_by_blocks_and_written(tmp_path: Path) -> None:
    of = boards.load("mps2-an386")
    server = Server(MAP)
    work = job(tmp_path, of, gdb=server.address)
    RUNNER.write(of, work)
    # gcc's linker gives one piece, Zig's several that follow each other.
    assert work.pieces[0][0] == 0
    end = max(address + len(data) for address, data in work.pieces)
    blocks = -(-end // 0x1000)
    assert server.flash_log[0] == f"vFlashErase:0,{blocks * 0x1000:x}"
    assert server.flash_log[-1] == "vFlashDone"
    expected = bytearray(b"\xff" * (blocks * 0x1000))
    for address, data in work.pieces:
        expected[address : address + len(data)] = data
    assert server.memory[: blocks * 0x1000] == expected
    assert not any(server.memory[blocks * 0x1000 :])


def test_two_pieces_in_one_block_of_flash_are_both_there() -> None:
    """The block is erased once, before both; the second erase took the first piece away."""
    server = Server(MAP)
    work = pieces_job((0x100, bytes(range(256))), (0x800, b"data"), gdb=server.address)
    RUNNER.write(boards.load("mps2-an386"), work)
    assert server.memory[0x100:0x200] == bytes(range(256)) and server.memory[0x800:0x804] == b"data"
    assert [e for e in server.flash_log if e.startswith("vFlashErase")] == ["vFlashErase:0,1000"]


def test_flash_with_blocks_of_several_sizes_is_erased_region_by_region() -> None:
    """As an STM32F4's: 16 KB, 64 KB and 128 KB; each erase lies in one region."""
    server = Server(memory_map((0, 0x10000, 0x4000), (0x10000, 0x10000, 0x10000),
                               (0x20000, 0x60000, 0x20000)))  # fmt: skip
    data = bytes(i * 7 % 251 for i in range(0x20100))
    RUNNER.write(boards.load("mps2-an386"), pieces_job((0x4000, data), gdb=server.address))
    assert server.memory[0x4000 : 0x4000 + len(data)] == data
    assert [e for e in server.flash_log if e.startswith("vFlashErase")] == [
        "vFlashErase:4000,c000", "vFlashErase:10000,10000", "vFlashErase:20000,20000",
    ]  # fmt: skip


@pytest.mark.parametrize("flash", [False, True])
def test_packets_are_no_longer_than_the_server_takes(flash: bool) -> None:
    server = Server(MAP if flash else "", packet_size=0x100)
    data = b"$#}*" * 300  # every byte is escaped
    RUNNER.write(boards.load("mps2-an386"), pieces_job((0, data), gdb=server.address))
    assert server.memory[: len(data)] == data and server.longest <= 0x100


def test_a_chip_without_flash_at_that_address_is_left_alone() -> None:
    server = Server(memory_map((0x8000, 0x8000, 0x1000)))
    with pytest.raises(FlashError, match="no flash at 0x00007f00: it is not that of mps2-an386"):
        RUNNER.write(
            boards.load("mps2-an386"), pieces_job((0x7F00, bytes(0x400)), gdb=server.address)
        )
    assert not server.flash_log


def test_segments_that_overlap_and_files_with_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="two segments overlap at 0x00000003"):
        _ = pieces_job((0, b"abcd"), (3, b"x")).pieces
    with pytest.raises(InputError, match="holds nothing to write"):
        _ = pieces_job().pieces
    assert pieces_job((4, b"efg"), (0, b"abcd")).pieces == ((0, b"abcdefg"),)


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


@pytest.mark.parametrize(
    "broken", ["<memory-map><memory type='flash'>", memory_map((0, 0x1000, 0)), "nothing"]
)
def test_a_broken_memory_map_is_one_line(broken: str, tmp_path: Path) -> None:
    of = boards.load("mps2-an386")
    server = Server(broken)
    with pytest.raises(FlashError, match="memory map that cannot be read"):
        RUNNER.write(of, job(tmp_path, of, gdb=server.address))
