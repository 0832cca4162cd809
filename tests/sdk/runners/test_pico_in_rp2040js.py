"""A UF2 file runs on a Pico: rp2040js loads it block by block, starts it at its second boot stage,
and its serial port answers with the host's bits.

Needs node and rp2040js (`npm install rp2040js`, with NODE_PATH naming its node_modules).
"""

import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from device_models import small_model
from flashable import board, job

from zeroskip.measure.protocol import Device
from zeroskip.runners.uf2 import encode
from zeroskip.runtime import Model
from zeroskip.tools import find_program

MACHINE = Path(__file__).with_name("rp2040.cjs")


class Pipe:
    """A serial line to the process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None and process.stdout is not None
        self._to, self._from = process.stdin, process.stdout

    def write(self, data: bytes) -> None:
        self._to.write(data)
        self._to.flush()

    def read(self, size: int) -> bytes:
        ready, _, _ = select.select([self._from], [], [], 0.2)
        return self._from.read1(size) if ready else b""  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def pico(tmp_path: Path) -> Iterator[Device]:
    node = find_program("node")
    if node is None:
        pytest.skip("needs node")
    there = [node, "-e", "require.resolve('rp2040js')"]
    if subprocess.run(there, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs rp2040js, and NODE_PATH")
    work = job(tmp_path, board("raspberry-pi-pico"))
    (tmp_path / "firmware.uf2").write_bytes(encode(work.blocks(256, fill=0), 0xE48BFF56))
    with subprocess.Popen(
        [node, str(MACHINE), str(tmp_path / "firmware.uf2")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield Device(Pipe(process))


def test_the_firmware_of_a_uf2_file_gives_the_hosts_bits(pico: Device) -> None:
    blob, inputs, _ = small_model(0)
    pico.synchronise(60)
    info = pico.info()
    assert info.board == "raspberry-pi-pico" and info.model_bytes == len(blob)
    for x in inputs:
        pico.load(x.tobytes())
        pico.infer(1, 0, 60)
        expected = np.asarray(Model(blob).run(x[None]))
        assert pico.outputs([expected.nbytes]) == [expected.tobytes()]
