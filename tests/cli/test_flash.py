"""zeroskip flash, as a user calls it: what it prints, and one line for each thing that is wrong."""

import stat
from pathlib import Path

import pytest
from device_models import small_model

from zeroskip import boards, cli
from zeroskip.runners import ports
from zeroskip.runners.ports import Port

PROGRAMMING = """
[programming]
pyocd_target = "nrf51"
openocd = ["board/st_nucleo_l4.cfg"]
stm32_product = 0x470
usb = ["0483:374b"]
uf2_family = 0xe48bff56
uf2_label = "RPI-RP2"
source = "made up"

[programming.chip_id]
address = 0xe0042000
mask = 0xfff
value = 0x470
"""


@pytest.fixture
def container(tmp_path: Path) -> Path:
    path = tmp_path / "model.zsk"
    path.write_bytes(small_model(0)[0])
    return path


@pytest.fixture
def described(tmp_path: Path) -> str:
    """A folder with a board that has every way of being written."""
    text = (Path(boards.__file__).parent / "nucleo-l4r5zi" / "board.toml").read_text()
    text = text.partition("\n[programming")[0] + PROGRAMMING
    folder = tmp_path / "described"
    folder.mkdir()
    (folder / "board.toml").write_text(text)
    return str(folder)


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but the cross compiler."""
    from zeroskip.tools import find_program

    folder = tmp_path / "bin"
    folder.mkdir()
    compiler = find_program("arm-none-eabi-gcc")
    if compiler is not None:
        (folder / "arm-none-eabi-gcc").symlink_to(compiler)
    monkeypatch.setenv("PATH", f"{folder}:/nowhere")
    return folder


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 1) -> str:
    assert cli.main(["flash", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("zeroskip flash: ") and captured.err.count("\n") == 1
    assert not captured.out
    return captured.err


def build(container: Path, board: str, folder: Path) -> Path:
    path = folder / f"{board}.elf"
    assert cli.main(["build", str(container), "--board", board, "-o", str(path)]) == 0
    return path


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["--drive", "/media/RPI-RP2"],
         ["uf2 would", "family 0xe48bff56 to it", "Board-ID RPI-RP2"]),
        (["--port", "/dev/ttyACM0"],
         ["stm32 would", "115200 baud, 8E1", "0x470", "go to 0x08000000"]),
        (["--gdb", "localhost:3333"],
         ["gdb would", "0xe0042000 & 0xfff is 0x470", "localhost:3333"]),
        pytest.param(
            ["--probe", "0123"], ["pyocd would", "the probe 0123", "target_override nrf51"],
            marks=pytest.mark.tool("pyocd"),
        ),
        pytest.param(
            ["--runner", "openocd"],
            ["run openocd -f board/st_nucleo_l4.cfg -c init", "verify reset"],
            marks=pytest.mark.tool("openocd"),
        ),
    ],
)  # fmt: skip
def test_a_dry_run_says_what_would_be_done(
    options: list[str],
    lines: list[str],
    container: Path,
    described: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["flash", str(container), "--board", described, *options, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert all(line in text for line in [*lines, str(container), "0x08000000..0x0800"]), text


def test_firmware_of_another_board(
    container: Path, described: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build(container, "microbit", tmp_path)
    capsys.readouterr()
    for option in (["--gdb", "localhost:1"], ["--drive", "/x"], ["--port", "/x"]):
        text = failure([str(path), "--board", described, *option], capsys)
        assert "microbit.elf is not for nucleo-l4r5zi" in text
        assert "not in its flash of 2,097,152 bytes at 0x08000000" in text


def test_files_that_are_neither(
    tmp_path: Path, described: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("a text")
    where = ["--board", described, "--gdb", "localhost:1"]
    assert "notes.txt" in failure([str(text), *where], capsys, 2)
    text.write_bytes(b"\x7fELF\x02")
    assert "notes.txt: not a 32-bit" in failure([str(text), *where], capsys, 2)
    assert "nothing.elf" in failure([str(tmp_path / "nothing.elf"), *where], capsys, 2)


def test_a_board_that_names_no_way(container: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = failure([str(container), "--board", "mps2-an386"], capsys)
    assert "nothing can write mps2-an386" in text and "gdb: needs --gdb HOST:PORT" in text


def test_a_runner_that_there_is_not(
    container: Path, described: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = failure([str(container), "--board", described, "--runner", "jtag"], capsys)
    assert "no runner 'jtag'" in text and "stm32" in text


@pytest.mark.tool("arm-none-eabi-gcc")
def test_a_tool_that_is_missing(
    container: Path, described: str, bare_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = failure([str(container), "--board", described, "--runner", "openocd"], capsys)
    assert "openocd is not installed (apt install openocd)" in text


def test_no_drive(container: Path, described: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = failure([str(container), "--board", described], capsys)
    assert "no UF2 drive RPI-RP2 is mounted" in text and "BOOTSEL" in text


@pytest.mark.tool("pyocd")
def test_no_probe(container: Path, described: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = failure([str(container), "--board", described, "--runner", "pyocd"], capsys)
    assert "no debug probe is connected" in text


@pytest.mark.tool("serial")
def test_no_such_port(container: Path, described: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = failure([str(container), "--board", described, "--port", "/dev/no-such-port"], capsys)
    assert "/dev/no-such-port" in text


@pytest.mark.tool("arm-none-eabi-gcc", "serial")
def test_two_boards(
    container: Path,
    described: str,
    bare_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenOCD would take the first; it is not even started."""
    started = bare_path / "started"
    (bare_path / "openocd").write_text(f"#!/bin/sh\n: > {started}\necho '** Verified OK **'\n")
    (bare_path / "openocd").chmod(0o700 | stat.S_IEXEC)
    two = [Port(f"/dev/ttyACM{n}", "0483:374b", f"00{n}") for n in range(2)]
    monkeypatch.setattr(ports, "ports_of", lambda board: two)
    text = failure([str(container), "--board", described, "--runner", "openocd"], capsys)
    assert "2 boards could be nucleo-l4r5zi: choose with --probe: 000, 001" in text
    assert not started.exists()
    arguments = ["flash", str(container), "--board", described, "--runner", "openocd"]
    assert cli.main([*arguments, "--probe", "000"]) == 0
    assert started.exists()


def test_another_board_on_the_drive(
    container: Path, described: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v1.0\nBoard-ID: RP2350\n")
    text = failure([str(container), "--board", described, "--drive", str(drive)], capsys)
    assert "is the drive of 'RP2350'" in text and "nothing was written" in text
    assert [p.name for p in drive.iterdir()] == ["INFO_UF2.TXT"]


def test_no_gdb_server(container: Path, described: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = failure([str(container), "--board", described, "--gdb", "127.0.0.1:1"], capsys)
    assert "no gdb server at 127.0.0.1:1: Connection refused" in text
    text = failure([str(container), "--board", described, "--gdb", "here"], capsys)
    assert "--gdb wants HOST:PORT" in text
