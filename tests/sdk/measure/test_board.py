"""`zeroskip measure` against firmware on an emulated board's serial port."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_models import random_int8, small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroskip import boards, cli, firmware
from zeroskip.converters import container
from zeroskip.converters.ir import Concat, Graph, Op, Quantization, Tensor
from zeroskip.errors import InputError, MeasureError
from zeroskip.measure import measure
from zeroskip.measure.power import Trace
from zeroskip.measure.protocol import Device

serial = pytest.importorskip("serial")
pytestmark = pytest.mark.tool("qemu-system-arm", "arm-none-eabi-gcc")

Machine = Callable[..., str]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Starts QEMU with a container's firmware; the URL or device of its serial port."""
    started: list[subprocess.Popen[str]] = []

    def start(
        blob: bytes, name: str = "mps2-an386", *, pty: bool = False, ram: int = 0,
        energy_mode: bool = False,
    ) -> str:  # fmt: skip
        board = boards.load(name)
        if ram:
            board = replace(board, ram=replace(board.ram, size=ram))
        image = firmware.build(
            blob, board, output=tmp_path / "f.elf", model_name="small", energy_mode=energy_mode
        ).path
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        backend = "pty" if pty else f"tcp:127.0.0.1:{port},server,nowait"
        process = subprocess.Popen(
            ["qemu-system-arm", "-M", board.emulation.machine, "-display", "none",
             "-monitor", "none", "-serial", backend, "-kernel", str(image)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        if pty:
            assert process.stdout is not None
            found = re.search(r"/dev/pts/\d+", process.stdout.readline())
            assert found is not None
            return found[0]
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        time.sleep(0.1)  # QEMU takes one connection at a time
        return f"socket://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def opened(url: str) -> Device:
    device = Device(serial.serial_for_url(url, baudrate=115200, timeout=0.02))
    device.synchronise()
    return device


@pytest.mark.parametrize("pty", [False, True])
@pytest.mark.parametrize("number", [0, 3])
def test_a_board_is_measured(number: int, pty: bool, machine: Machine) -> None:
    blob, inputs, _ = small_model(number)
    url = machine(blob, pty=pty)
    line = serial.serial_for_url(url, baudrate=115200, timeout=0.02)
    labels = np.zeros(len(inputs), np.int64)
    done = measure(Device(line), boards.load("mps2-an386"), blob, [inputs], runs=3, iterations=4,
                   labels=labels)  # fmt: skip
    assert done.matches_host and done.accuracy is not None
    assert done.accuracy.exact == done.accuracy.samples == len(inputs)
    assert (
        done.info.keeps_input and done.info.clock_hz == boards.load("mps2-an386").clock.startup_hz
    )
    assert done.latency.lowest_cycles <= done.latency.cycles <= done.latency.highest_cycles
    assert done.latency.cycles > 0 and len(done.latency.ops) > 0
    assert "not a latency" in done.provenance
    assert 0 < done.info.stack_bytes <= 4096


@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an500", "mps2-an505", "microbit"])
def test_other_cores_answer_too(name: str, machine: Machine) -> None:
    blob, inputs, _ = small_model(1)
    line = serial.serial_for_url(machine(blob, name), baudrate=115200, timeout=0.02)
    done = measure(Device(line), boards.load(name), blob, [inputs[:1]], runs=1, iterations=1)
    assert done.matches_host and done.info.core == boards.load(name).core.name


def test_inputs_come_in_order(machine: Machine) -> None:
    quantization = Quantization((0.125,), 0)
    names = ("a", "b")
    tensors = (*(Tensor(n, (2, 3, 3), "int8", quantization) for n in names),
               Tensor("y", (4, 3, 3), "int8", quantization))  # fmt: skip
    op = Op("join", Concat(0), names, "y")
    blob = container.build(Graph("two", {t.name: t for t in tensors}, (op,), names, ("y",)))
    a, b = (random_int8((2, 3, 3), 3, seed) for seed in (1, 2))
    line = serial.serial_for_url(machine(blob), baudrate=115200, timeout=0.02)
    done = measure(Device(line), boards.load("mps2-an386"), blob, [a, b], runs=1, iterations=2)
    assert done.matches_host and done.info.input_bytes == 36
    assert done.latency.harness_microseconds > 0


class Watching:
    """An instrument whose board draws 10 mA at 3 V for 50 ms between two edges."""

    name, volts = "a model", 3.0
    runs = closed = 0

    def start(self) -> None:
        self.runs += 1

    def stop(self) -> Trace:
        seconds = np.arange(1000) / 1e4
        full = np.full(1000, 1.0)
        return Trace(seconds, 0.01 * full, 3.0 * full, np.array([0.02, 0.07]))

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("room", [True, False])
def test_energy_is_measured_with_and_without_room_for_the_input(
    room: bool, machine: Machine, tmp_path: Path
) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("mps2-an386")
    sizes = firmware.build(blob, board, output=tmp_path / "roomy.elf").sizes
    url = machine(blob, ram=0 if room else sizes.ram - sizes.ram_input, energy_mode=True)
    line = serial.serial_for_url(url, baudrate=115200, timeout=0.02)
    instrument = Watching()
    done = measure(Device(line), board, blob, [inputs[:1]], runs=3, instrument=instrument,
                   iterations=5)  # fmt: skip
    assert instrument.runs == 3 and done.matches_host and done.energy is not None
    count = 5 if room else 1
    assert done.energy.microjoules == pytest.approx(3.0 * 0.01 * 0.05 * 1e6 / count)
    assert done.energy.iterations == count and done.energy.seconds == pytest.approx(0.05 / count)
    assert json.loads(json.dumps(done.to_json()))["energy"]["instrument"] == "a model"
    # A board whose counter tells the time notices that those are other 50 ms.
    real = replace(board, console=replace(board.console, driver="nrf51"))
    with pytest.raises(MeasureError, match="between the edges an inference takes"):
        measure(Device(line), real, blob, [inputs[:1]], runs=1, instrument=Watching(),
                iterations=1)  # fmt: skip
    if room:  # back in performance mode after the error
        assert Device(line).infer(1, 0, 10).microseconds is not None


def test_without_room_for_the_input_it_is_loaded_for_each_inference(
    machine: Machine, tmp_path: Path
) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("mps2-an386")
    sizes = firmware.build(blob, board, output=tmp_path / "roomy.elf").sizes
    assert sizes.ram_input >= inputs[0].nbytes
    url = machine(blob, ram=sizes.ram - sizes.ram_input)
    line = serial.serial_for_url(url, baudrate=115200, timeout=0.02)
    done = measure(Device(line), board, blob, [inputs], runs=2, iterations=5)
    assert not done.info.keeps_input and done.matches_host and done.latency.iterations == 1
    device = Device(line)
    device.load(inputs[:1].tobytes())
    with pytest.raises(MeasureError, match="No room to keep the input"):
        device.infer(3, 0, 10)
    device.infer(1, 0, 10)
    with pytest.raises(MeasureError, match="Load an input first"):
        device.infer(1, 0, 10)
    with pytest.raises(MeasureError, match="The input is gone"):
        device.command("db print")


def test_what_is_wrong_is_one_line(machine: Machine) -> None:
    blob, inputs, _ = small_model(0)
    other = small_model(1)[0]
    url = machine(blob)
    line = serial.serial_for_url(url, baudrate=115200, timeout=0.02)
    device, board = Device(line), boards.load("mps2-an386")
    with pytest.raises(MeasureError, match="firmware is for mps2-an386, not for mps2-an385"):
        measure(device, boards.load("mps2-an385"), blob, [inputs])
    with pytest.raises(MeasureError, match="runs another model"):
        measure(device, board, other, [small_model(1)[1]])
    with pytest.raises(InputError, match="labels"):
        measure(device, board, blob, [inputs], labels=np.zeros(1))
    with pytest.raises(InputError, match="above 0"):
        measure(device, board, blob, [inputs], runs=0)


COMMANDS = [
    ("bogus", "Unknown command: bogus"),
    ("db", "requires a subcommand"),
    ("db load", "'db load' requires the # of bytes"),
    ("db load 7", "The model takes"),
    ("db load -1", "The model takes"),
    ("db load 99999999999999999999", "The model takes"),
    ("db 00", "No load under way"),
    ("infer 0", "iterations must be >0"),
    ("infer -3", "iterations must be >0"),
    ("infer 1 x", "warmup must be >=0"),
    ("infer 1 0", "Load an input first"),
    ("results", "No results yet"),
    ("zs-ops", "Load an input first"),
    ("zs-output", "No results yet"),
    ("zs-mode", "takes energy or performance"),
    ("x" * 500, "Command too long"),
]


def test_wrong_commands_are_answered(machine: Machine) -> None:
    device = opened(machine(small_model(0)[0]))
    for command, answer in COMMANDS:
        with pytest.raises(MeasureError, match=answer):
            device.command(command)
    size = device.info().input_bytes
    device.command(f"db load {size}")
    for digits, answer in (
        ("0", "Insufficent number of hex digits"),
        ("zz", "Invalid hex digit 'zz'"),
        ("0g", "Invalid hex digit '0g'"),
    ):
        with pytest.raises(MeasureError, match=answer):
            device.command(f"db {digits}")
    # The harness's own: name, profile, a time, the buffer as it was loaded.
    assert device.name() == "dut-[zeroskip]"
    assert device.command("profile") == ["m-profile-[zeroskip]", "m-model-[small]"]
    (stamp,) = device.command("timestamp")
    assert re.fullmatch(r"m-lap-us-\d+", stamp)
    data = bytes(i % 251 for i in range(size))
    device.load(data)
    shown = "".join(line.removeprefix("m-buffer-") + "-" for line in device.command("db print"))
    assert bytes.fromhex(shown.replace("-", "")) == data
    # More bytes than were announced are left.
    device.command(f"db load {size}")
    for _ in range(size // 50 + 2):
        try:
            device.command("db " + "00" * 50)
        except MeasureError as error:
            assert "No load under way" in str(error)
    device.energy_mode(True)
    assert device.infer(2, 0, 10).microseconds is None
    device.energy_mode(False)
    assert device.infer(2, 1, 10).microseconds is not None


def test_noise_does_not_bring_the_firmware_down(machine: Machine) -> None:
    blob, inputs, _ = small_model(0)
    url = machine(blob)
    line = serial.serial_for_url(url, baudrate=115200, timeout=0.02)
    device = Device(line)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=300), st.text("db load%0123456789infer zs-", max_size=200)))
    def noise(data: bytes | str) -> None:
        text = data if isinstance(data, bytes) else data.encode()
        line.write(re.sub(rb"infer +\d{3,}", b"", text) + b"%")

    noise()
    time.sleep(0.5)
    device.synchronise(30)
    assert measure(device, boards.load("mps2-an386"), blob, [inputs[:1]], runs=1).matches_host


def test_the_command(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blob, inputs, _ = small_model(0)
    path = tmp_path / "model.zsk"
    path.write_bytes(blob)
    np.savez(tmp_path / "x.npz", x=inputs, y=np.zeros(len(inputs)))
    arguments = ["measure", str(path), "--board", "mps2-an386", "--port", machine(blob)]
    more = ["--data", str(tmp_path / "x.npz"), "--runs", "2", "-o", str(tmp_path / "run.json")]
    assert cli.main([*arguments, *more]) == 0
    text = capsys.readouterr().out
    assert "identical to the host's" in text and "accuracy" in text and "not a latency" in text
    shown = json.loads((tmp_path / "run.json").read_text())
    assert shown["kind"] == "emulated" and shown["matches_host"] and shown["latency"]["runs"] == 2


def test_silence_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    master, slave = os.openpty()
    path = tmp_path / "model.zsk"
    path.write_bytes(small_model(0)[0])
    arguments = ["measure", str(path), "--board", "mps2-an386", "--port", os.ttyname(slave)]
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert "did not answer in time" in error and error.count("\n") == 1
    os.close(master)
    os.close(slave)
    assert cli.main([*arguments[:-1], "/dev/nothing"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
