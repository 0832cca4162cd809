"""OpenOCD and pyOCD: command lines, real programs without a board, and a made-up probe."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from flashable import PROGRAMMING, board, job

from zeroskip import boards, cli, runners
from zeroskip.boards import ChipId
from zeroskip.errors import FlashError
from zeroskip.runners import RUNNERS, choose, ports
from zeroskip.runners.openocd import OpenOcdRunner, command
from zeroskip.runners.ports import Port, find_port
from zeroskip.runners.pyocd import PyOcdRunner
from zeroskip.runners.uf2 import Uf2Runner
from zeroskip.tools import run_tool

CHIP = ChipId(0xE0042000, 0xFFF, 0x470)


def fake_openocd(folder: Path, output: str, status: int) -> Path:
    """A program that records its arguments, one a line."""
    path = folder / "bin" / "openocd"
    path.parent.mkdir()
    path.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {folder}/arguments\necho '{output}'\nexit {status}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path.parent


@pytest.fixture(autouse=True)
def no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "ports_of", lambda board: [])


def test_openocd_is_told_to_check_write_verify_and_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{fake_openocd(tmp_path, '** Verified OK **', 0)}:/usr/bin:/bin")
    of = board(chip=CHIP)
    work = job(tmp_path, of, probe="0123")
    assert OpenOcdRunner().refuses(of, work) is None
    OpenOcdRunner().write(of, work)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[:4] == ["-f", "board/st_nucleo_l4.cfg", "-c", "adapter serial 0123"]
    commands = [a for a in arguments[2:] if a != "-c"]
    assert commands[1:3] == ["init", "reset halt"]
    assert "read_memory 0xe0042000 32 1" in commands[3] and "!= 0x470" in commands[3]
    assert commands[4] == f"program {{{work.path}}} verify reset"
    assert commands[5] == "shutdown"


def test_openocd_has_to_say_that_it_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{fake_openocd(tmp_path, 'nothing of note', 0)}:/usr/bin:/bin")
    of = board()
    with pytest.raises(FlashError, match="openocd failed: it did not verify"):
        OpenOcdRunner().write(of, job(tmp_path, of))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("Error: open failed", "no debug probe of nucleo-l4r5zi is connected"),
        ("zeroskip: another chip", "another chip than that of nucleo-l4r5zi; nothing was written"),
        ("** Verify Failed **", "verification failed"),
        ("Error: something new\nmore", "openocd failed: something new"),
    ],
)
def test_what_openocd_says_becomes_one_line(
    output: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{fake_openocd(tmp_path, output, 1)}:/usr/bin:/bin")
    of = board()
    with pytest.raises(FlashError, match=message) as caught:
        OpenOcdRunner().write(of, job(tmp_path, of))
    assert "\n" not in str(caught.value)


def openocd_boards() -> list[str]:
    known = [(name, boards.load(name).programming) for name in boards.names()]
    return [name for name, p in known if p is not None and p.openocd]


@pytest.mark.tool("openocd")
@pytest.mark.parametrize("name", openocd_boards())
def test_openocd_knows_its_configuration(name: str) -> None:
    programming = boards.load(name).programming
    assert programming is not None
    files = [argument for file in programming.openocd for argument in ("-f", file)]
    run_tool(["openocd", *files, "-c", "noinit", "-c", "shutdown"], timeout_s=60)


@pytest.mark.tool("openocd")
@pytest.mark.parametrize("name", openocd_boards())
def test_openocd_itself_without_a_probe_is_one_line(name: str, tmp_path: Path) -> None:
    of = boards.load(name)
    with pytest.raises(FlashError, match=f"no debug probe of {name} is connected") as caught:
        OpenOcdRunner().write(of, job(tmp_path, of))
    assert "\n" not in str(caught.value)


@pytest.mark.tool("openocd")
def test_openocd_without_an_interface_is_one_line(tmp_path: Path) -> None:
    """It ends with status 0, which was taken for success."""
    of = board()
    of = replace(of, programming=replace(PROGRAMMING, openocd=("target/nrf51.cfg",)))
    with pytest.raises(FlashError, match=r"names no debug probe: .* nothing was written"):
        OpenOcdRunner().write(of, job(tmp_path, of))


def test_a_target_in_a_pack_needs_the_pack(tmp_path: Path) -> None:
    pytest.importorskip("pyocd")
    of = board()
    of = replace(of, programming=replace(PROGRAMMING, pyocd_pack=True))
    work = job(tmp_path, of)
    assert "pass --pack" in (PyOcdRunner().refuses(of, work) or "")
    pack = replace(work, pack=tmp_path / "x.pack")
    assert PyOcdRunner().refuses(of, pack) is None
    assert "x.pack" in PyOcdRunner().plan(of, pack)[0]


def test_ports_are_found_by_their_usb_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Port] = []
    monkeypatch.setattr(ports, "ports_of", lambda board: found)
    of = board()
    with pytest.raises(FlashError, match="no serial port of nucleo-l4r5zi is connected"):
        find_port(of, None)
    found.append(Port("/dev/ttyACM0", "0483:374b", "1"))
    assert find_port(of, None) == "/dev/ttyACM0"
    found.append(Port("/dev/ttyACM1", "0483:374b", "2"))
    with pytest.raises(FlashError, match="2 boards could be nucleo-l4r5zi: choose with --port"):
        find_port(of, None)
    assert find_port(of, "/dev/ttyACM1") == "/dev/ttyACM1"


def test_the_first_runner_that_can_is_taken(tmp_path: Path) -> None:
    of = boards.load("mps2-an386")
    work = job(tmp_path, of, gdb="localhost:3333")
    assert choose(of, work).name == "gdb"
    with pytest.raises(FlashError, match=r"nothing can write mps2-an386; uf2: .*gdb: needs --gdb"):
        choose(of, replace(work, gdb=None))
    with pytest.raises(FlashError, match="no runner 'jtag': runners are uf2, pyocd, openocd"):
        choose(of, work, "jtag")
    with pytest.raises(FlashError, match="uf2 cannot write mps2-an386"):
        choose(of, work, "uf2")


@pytest.mark.tool("openocd")
def test_the_place_that_is_named_decides(tmp_path: Path) -> None:
    """With pyOCD installed and its target known, --drive, --port and --gdb were overlooked."""
    pytest.importorskip("pyocd")
    of = board()
    work = job(tmp_path, of)
    assert choose(of, replace(work, probe="1")).name == "pyocd"
    assert choose(of, work).name == "uf2"
    assert choose(of, replace(work, gdb="localhost:3333")).name == "gdb"
    assert choose(of, replace(work, drive=tmp_path)).name == "uf2"
    assert choose(of, replace(work, port="/dev/ttyACM0")).name == "stm32"
    assert choose(of, replace(work, port="/dev/ttyACM0"), "openocd").name == "openocd"
    without = replace(of, programming=replace(PROGRAMMING, stm32_product=None))
    with pytest.raises(FlashError, match="stm32 cannot write nucleo-l4r5zi: it has no serial"):
        choose(without, replace(work, port="/dev/ttyACM0"))


class Installed:
    """An entry point of another package."""

    def __init__(self, loads: object) -> None:
        self._loads = loads

    def load(self) -> object:
        if isinstance(self._loads, Exception):
            raise self._loads
        return self._loads


def test_runners_of_other_packages_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Uf2Runner):
        name = "other"

    points = {"other": Other(), "broken": ImportError("no library"), "odd": "a text"}
    found = {name: Installed(loads) for name, loads in points.items()}
    monkeypatch.setattr(runners, "_installed", lambda: found)
    assert runners.runner_names() == [*RUNNERS, "broken", "odd", "other"]
    of = board()
    assert choose(of, job(tmp_path, of), "other").name == "other"
    with pytest.raises(FlashError, match="'broken' cannot be loaded: no library"):
        choose(of, job(tmp_path, of), "broken")
    with pytest.raises(FlashError, match="'odd' is a str, not a Runner"):
        choose(of, job(tmp_path, of), "odd")


@pytest.mark.tool("openocd")
def test_openocd_itself_stops_at_another_chip(tmp_path: Path) -> None:
    """Its own interpreter runs the check, with made-up memory and `program`."""
    of = board(chip=CHIP)
    arguments = command(of, job(tmp_path, of))[3:]
    for word, starts in ((0x10006470, True), (0x10006461, False)):
        made_up = [
            "proc init {} {}", "proc reset {how} {}",
            f"proc read_memory {{at width count}} {{return {{{word:#x}}}}}",
            "proc program {file args} {echo \"WRITES $file\"}",
        ]  # fmt: skip
        stubs = [part for line in made_up for part in ("-c", line)]
        done = run_tool(
            ["openocd", "-c", "noinit", *stubs, *arguments],
            timeout_s=60, accept=lambda status: True,
        )  # fmt: skip
        assert (f"WRITES {tmp_path / 'firmware.elf'}" in done.stdout) == starts
        assert ("zeroskip: another chip" in done.stdout) != starts
        assert (done.returncode == 0) == starts


def test_a_dry_run_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from device_models import small_model

    path = tmp_path / "model.zsk"
    path.write_bytes(small_model(0)[0])
    arguments = ["flash", str(path), "--board", "mps2-an386", "--gdb", "localhost:1"]
    assert cli.main([*arguments, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "gdb would" in text and "reset and run" in text
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith("zeroskip flash: no gdb server at localhost:1") and error.count("\n") == 1
    )
    assert cli.main(["flash", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in listed for name in RUNNERS)
    assert cli.main(["flash", "--list", "--board", "mps2-an386"]) == 0
    assert "needs --gdb" in capsys.readouterr().out
    assert cli.main(["flash"]) == 2
