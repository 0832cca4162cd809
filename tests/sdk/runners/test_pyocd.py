"""pyOCD itself, with its own flash algorithm, on a simulated nRF51822."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flashable import PROGRAMMING, board, job

from zeroskip.boards import Board, ChipId
from zeroskip.errors import FlashError
from zeroskip.runners.pyocd import PyOcdRunner

pytest.importorskip("pyocd")
pytest.importorskip("unicorn")
from simulated_nrf51 import FLASH_BYTES, HARDWARE_ID, RAM, Chip, Probe

RUNNER = PyOcdRunner()
Connect = Callable[..., list[Chip]]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Plugs in probes with those ids, each with a chip of its own."""
    from pyocd.probe.aggregator import DebugProbeAggregator

    def plug_in(*ids: str) -> list[Chip]:
        chips = [Chip() for _ in ids]
        probes = [Probe(chip, name) for chip, name in zip(chips, ids, strict=True)]
        found = staticmethod(lambda unique_id=None: probes)
        monkeypatch.setattr(DebugProbeAggregator, "get_all_connected_probes", found)
        return chips

    return plug_in


def microbit(chip: ChipId | None = None) -> Board:
    programming = replace(PROGRAMMING, pyocd_target="nrf51", chip_id=chip)
    return replace(board("microbit"), programming=programming)


def test_firmware_is_written_read_back_and_started(connect: Connect, tmp_path: Path) -> None:
    (chip,) = connect("A1")
    of = microbit(ChipId(HARDWARE_ID, 0xFFFF, 0x007D))
    work = job(tmp_path, of)
    ((address, data),) = work.pieces
    (said,) = RUNNER.write(of, work)
    assert "wrote and read back" in said
    assert chip.flash[address : address + len(data)] == data
    assert set(chip.flash[address + len(data) :]) == {0xFF}
    assert any(e.startswith("erase") for e in chip.log) and chip.log[-1] == "reset and run"
    assert not chip.halted


def test_what_was_there_is_replaced(connect: Connect, tmp_path: Path) -> None:
    (chip,) = connect("A1")
    chip.uc.mem_write(0, bytes(range(256)) * (FLASH_BYTES // 256))
    of = microbit()
    work = job(tmp_path, of)
    RUNNER.write(of, work)
    ((address, data),) = work.pieces
    assert chip.flash[address : address + len(data)] == data


def test_another_chip_is_left_alone(connect: Connect, tmp_path: Path) -> None:
    (chip,) = connect("A1")
    of = microbit(ChipId(HARDWARE_ID, 0xFFFF, 0x0090))
    with pytest.raises(FlashError, match=r"another chip .* 0x7d, not 0x90; nothing was written"):
        RUNNER.write(of, job(tmp_path, of))
    assert set(chip.flash) == {0xFF} and not any(e.startswith("erase") for e in chip.log)


def test_a_bit_that_does_not_stick_is_found(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chip,) = connect("A1")
    read = chip.read_memory_block8

    def worn(addr: int, size: int, **options: int) -> list[int]:
        found = read(addr, size, **options)
        if addr <= 0x123 < addr + size < RAM:
            found[0x123 - addr] ^= 4
        return found

    monkeypatch.setattr(chip, "read_memory_block8", worn)
    of = microbit()
    with pytest.raises(FlashError, match="verification failed at 0x00000123"):
        RUNNER.write(of, job(tmp_path, of))


def test_a_probe_that_is_pulled_out_is_one_line(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyocd.core.exceptions import ProbeDisconnected

    (chip,) = connect("A1")

    def gone(*arguments: Any, **options: Any) -> None:
        raise ProbeDisconnected("the probe\nis gone")

    monkeypatch.setattr(chip, "_flash_written", gone)
    monkeypatch.setattr(chip, "write_memory_block32", gone)
    of = microbit()
    with pytest.raises(FlashError, match="pyocd failed: the probe is gone"):
        RUNNER.write(of, job(tmp_path, of))


def test_of_two_probes_one_has_to_be_chosen(connect: Connect, tmp_path: Path) -> None:
    first, second = connect("A1", "B2")
    of = microbit()
    work = job(tmp_path, of)
    with pytest.raises(FlashError, match=r"2 debug probes are connected: choose .* A1, B2"):
        RUNNER.write(of, work)
    with pytest.raises(FlashError, match="no debug probe with 'C3' in its id is connected"):
        RUNNER.write(of, replace(work, probe="C3"))
    RUNNER.write(of, replace(work, probe="B2"))
    assert set(first.flash) == {0xFF} and second.flash[:8] == work.pieces[0][1][:8]


def test_a_target_that_pyocd_has_not(connect: Connect, tmp_path: Path) -> None:
    (chip,) = connect("A1")
    of = microbit()
    programming = replace(PROGRAMMING, pyocd_target="no-such-chip")
    with pytest.raises(FlashError, match="pyocd failed: Target type no_such_chip not recognized"):
        RUNNER.write(replace(of, programming=programming), job(tmp_path, of))
    assert set(chip.flash) == {0xFF}


def test_a_pack_that_is_none(connect: Connect, tmp_path: Path) -> None:
    connect("A1")
    of = microbit()
    pack = tmp_path / "some.pack"
    pack.write_bytes(b"not a pack")
    with pytest.raises(FlashError, match="pyocd failed: ") as caught:
        RUNNER.write(of, job(tmp_path, of, pack=pack))
    assert "\n" not in str(caught.value)


def test_pyocd_itself_finds_no_probe(tmp_path: Path) -> None:
    of = microbit()
    with pytest.raises(FlashError, match="no debug probe is connected"):
        RUNNER.write(of, job(tmp_path, of))
