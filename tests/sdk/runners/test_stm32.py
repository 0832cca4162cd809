"""The STM32 serial bootloader on a pseudo-terminal that speaks AN3155."""

import os
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from flashable import board, job, pieces_job

from zeroskip.errors import FlashError
from zeroskip.runners.stm32 import Stm32Runner

pytest.importorskip("serial")
RUNNER = Stm32Runner()
ACK, NACK = b"\x79", b"\x1f"


class Device:
    """The bootloader of a chip with flash at 0x08000000."""

    def __init__(self, product: int = 0x470) -> None:
        self.flash = bytearray(b"\x00" * (2 << 20))
        self.product = product
        self.protected = self.silent = self.legacy = False
        self.flip_at: int | None = None
        self.refuse_write_at: int | None = None
        self.wrong_sync = b""
        self.late_s = 0.0
        self.order: list[int] = []
        self.erased = False
        self.started: int | None = None
        self._master, slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(slave)
        self._slave = slave
        self.port = os.ttyname(slave)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._slave)  # which ends the thread's read
        self._thread.join()  # or it would read what has the number of _master next
        os.close(self._master)

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += os.read(self._master, count - len(data))
        return data

    def _say(self, data: bytes) -> None:
        os.write(self._master, data)

    def _run(self) -> None:
        try:
            self._synchronise()
            while True:
                code, complement = self._take(2)
                self._say(NACK) if code ^ complement != 0xFF else self._command(code)
        except OSError:
            return

    def _synchronise(self) -> None:
        while self._take(1) != b"\x7f" or self.silent:
            pass
        time.sleep(self.late_s)
        self._say(self.wrong_sync or ACK)

    def _command(self, code: int) -> None:
        if code == 0x00:
            erase = 0x43 if self.legacy else 0x44
            commands = bytes((0x31, 0x00, 0x02, 0x11, 0x21, 0x31, erase))
            self._say(ACK + bytes((len(commands) - 1,)) + commands + ACK)
        elif code == 0x02:
            self._say(ACK + b"\x01" + self.product.to_bytes(2, "big") + ACK)
        elif self.protected and code in (0x11, 0x21, 0x31, 0x43, 0x44):
            self._say(NACK)
        elif code in (0x43, 0x44):
            self._say(ACK)
            assert (
                self._take(2 if code == 0x43 else 3) == b"\xff\xff\x00"[-2 if code == 0x43 else 0 :]
            )
            self.flash[:] = b"\xff" * len(self.flash)
            self.erased = True
            self._say(ACK)
        elif code in (0x11, 0x21, 0x31):
            self._say(ACK)
            *address, check = self._take(5)
            assert check == address[0] ^ address[1] ^ address[2] ^ address[3]
            at = int.from_bytes(bytes(address), "big") - 0x08000000
            if code == 0x21:
                self.started = at + 0x08000000
            self._say(ACK)
            if code == 0x11:
                count, complement = self._take(2)
                assert count ^ complement == 0xFF
                self._say(ACK + bytes(self.flash[at : at + count + 1]))
            elif code == 0x31:
                count = self._take(1)[0] + 1
                data, check = self._take(count), self._take(1)[0]
                total = count - 1
                for byte in data:
                    total ^= byte
                # Flash that is written 8 bytes at once, and each place only once.
                assert total == check and count % 8 == 0 and at % 8 == 0 and self.erased
                assert set(self.flash[at : at + count]) == {0xFF}
                self.order.append(at)
                if self.refuse_write_at == at:
                    self._say(NACK)
                    return
                self.flash[at : at + count] = data
                if self.flip_at is not None and at <= self.flip_at < at + count:
                    self.flash[self.flip_at] ^= 1
                self._say(ACK)
        else:
            self._say(NACK)


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device()
    yield made
    made.close()


@pytest.mark.parametrize("legacy", [False, True])
def test_firmware_is_written_and_read_back(device: Device, legacy: bool, tmp_path: Path) -> None:
    device.legacy = legacy
    of = board()
    work = job(tmp_path, of, port=device.port)
    done = RUNNER.write(of, work)
    assert all("wrote and read back" in line for line in done)
    for address, data in work.pieces:
        assert device.flash[address - 0x08000000 :][: len(data)] == data
    assert device.started == work.pieces[0][0] == 0x08000000
    assert device.order == sorted(device.order, reverse=True) and device.order[-1] == 0


def test_a_bootloader_that_answers_late_is_not_out_of_step(device: Device, tmp_path: Path) -> None:
    device.late_s = 1.3  # longer than the first byte is waited for: the second is half a command
    work = job(tmp_path, board(), port=device.port)
    assert RUNNER.write(board(), work)
    assert device.started == 0x08000000


def test_segments_that_share_a_block_are_written_at_once(device: Device) -> None:
    """Double words are programmed once; the second piece's padding would be a second time."""
    work = pieces_job((0x08000000, b"v" * 13), (0x0800000D, b"data"), (0x08000014, b"more"),
                      port=device.port)  # fmt: skip
    RUNNER.write(board(), work)
    assert device.flash[:24] == b"v" * 13 + b"data" + b"\xff" * 3 + b"more"
    assert device.order == [0]


def test_a_bootloader_that_is_synchronised_already_says_no_and_goes_on(device: Device) -> None:
    device.wrong_sync = NACK
    work = pieces_job((0x08000000, bytes(16)), port=device.port)
    assert "read back" in RUNNER.write(board(), work)[0]


def test_a_write_that_is_refused_leaves_no_vector_table(device: Device) -> None:
    device.refuse_write_at = 0x100
    work = pieces_job((0x08000000, b"x" * 0x300), port=device.port)
    with pytest.raises(FlashError, match="refused to write at 0x08000100"):
        RUNNER.write(board(), work)
    assert set(device.flash[:0x100]) == {0xFF} and device.started is None


def test_a_port_that_talks_otherwise_is_no_bootloader(device: Device) -> None:
    device.wrong_sync = b"A"
    with pytest.raises(FlashError, match="no STM32 bootloader answers"):
        RUNNER.write(board(), pieces_job((0x08000000, b"x"), port=device.port))


def test_another_chip_is_left_alone(device: Device, tmp_path: Path) -> None:
    device.product = 0x450
    of = board()
    with pytest.raises(FlashError, match="product id 0x450, not 0x470; nothing was written"):
        RUNNER.write(of, job(tmp_path, of, port=device.port))
    assert not device.erased


def test_a_flipped_bit_is_found(device: Device, tmp_path: Path) -> None:
    device.flip_at = 0x123
    of = board()
    with pytest.raises(FlashError, match="verification failed at 0x08000123"):
        RUNNER.write(of, job(tmp_path, of, port=device.port))
    assert device.started is None


def test_a_protected_chip_is_one_line(device: Device, tmp_path: Path) -> None:
    device.protected = True
    of = board()
    with pytest.raises(FlashError, match=r"refused to read at 0x08000000 [(]its flash is prot"):
        RUNNER.write(of, job(tmp_path, of, port=device.port))
    assert not device.erased


def test_silence_is_one_line(device: Device, tmp_path: Path) -> None:
    device.silent = True
    of = board()
    with pytest.raises(FlashError, match=r"no STM32 bootloader answers .* BOOT0"):
        RUNNER.write(of, job(tmp_path, of, port=device.port))
    with pytest.raises(FlashError, match="/dev/nothing"):
        RUNNER.write(of, job(tmp_path, of, port="/dev/nothing"))
