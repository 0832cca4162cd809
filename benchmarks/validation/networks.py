"""Networks of MLPerf Tiny, in the very sources that were measured: what microTVM generated for
OctoML's submission to v1.0, which calls the kernels of CMSIS-NN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

import zeroskip
from validation.programs import Program, count
from zeroskip import boards
from zeroskip.emulation.cycles import model_of
from zeroskip.emulation.profile import Waits
from zeroskip.errors import InputError

# As the submission's CMakeLists.txt says: CONFIG_SPEED_OPTIMIZATIONS of Zephyr.
OPTIONS: Final = ("-O2",)
SOURCES: Final = Path("tiny_results_v1.0", "closed", "OctoML", "code", "microtvm_cmsis_nn")


@dataclass(frozen=True)
class Target:
    """What was measured, as the submission's folders name it, the board that stands for it here,
    and its clock. Without a description of its flash, `flash` is False."""

    folder: str
    board: str
    clock_hz: int
    flash: bool


@dataclass(frozen=True)
class Network:
    """`per_second` is the median throughput of the submission's results.txt, `workspace` the
    bytes that its CMakeLists.txt gives it, `fields` the names of its input and output."""

    name: str
    target: Target
    per_second: float
    workspace: int
    fields: tuple[str, str]

    @property
    def milliseconds(self) -> float:
        return 1e3 / self.per_second


L4R5: Final = Target("NUCLEO_L4R5ZI", "nucleo-l4r5zi", 120_000_000, True)
NRF5340: Final = Target("NRF5340DK", "mps2-an505", 128_000_000, False)

_KWS: Final = 17_744, ("input_1", "Identity")
_VWW: Final = 65_312, ("input_1_int8", "Identity_int8")
_IC: Final = 66_624, ("input_1_int8", "Identity_int8")

NETWORKS: Final = (
    Network("kws", L4R5, 10.019, *_KWS),
    Network("vww", L4R5, 3.320, *_VWW),
    Network("ic", L4R5, 2.567, *_IC),
    Network("kws", NRF5340, 13.143, *_KWS),
    Network("vww", NRF5340, 4.310, *_VWW),
    Network("ic", NRF5340, 3.163, *_IC),
)


@dataclass(frozen=True)
class Inference:
    """Cycles at zero wait states, waits for the flash, and what both take at the target's clock."""

    cycles: int
    waits: Waits | None
    clock_hz: int

    @property
    def milliseconds(self) -> float:
        return (self.cycles + (self.waits.cycles if self.waits else 0)) / self.clock_hz * 1e3


def run(folder: Path, network: Network, model: Path) -> Inference:
    """One inference on the target's core and flash; `model` is the .tflite file, whose output it
    must give. Raises InputError if it does not."""
    container = zeroskip.Model(zeroskip.convert(model))
    shape = container.inputs[0].shape
    x = np.random.default_rng(0).integers(-128, 128, (1, *shape)).astype(np.int8)
    expected = np.asarray(container.run(x))
    sources = folder / SOURCES / network.target.folder / network.name
    cmsis_nn = folder / "CMSIS-NN"
    program = Program(
        [
            *sorted((sources / "model" / "codegen" / "host" / "src").glob("*.c")),
            *sorted((cmsis_nn / "Source").glob("*/*.c")),
        ],
        ["mlperf.c"],
        [
            sources / "include", sources / "crt" / "include", sources / "crt_config",
            cmsis_nn / "Include", folder / "CMSIS_6" / "CMSIS" / "Core" / "Include",
        ],
        [
            *OPTIONS, f"-DINPUT={network.fields[0]}", f"-DOUTPUT={network.fields[1]}",
            f"-DWORKSPACE={network.workspace}", f"-DOUTPUT_BYTES={expected.size}",
        ],
        {"input.h": _header(x.ravel().tolist())},
    )  # fmt: skip
    board = boards.load(network.target.board)
    flash = board.flash_timing if network.target.flash else None
    if flash is not None:
        # Zephyr leaves the prefetch as it is after reset: off (soc/arm/st_stm32/stm32l4/soc.c;
        # RM0432, FLASH_ACR).
        flash = replace(flash, prefetch=False)
    counted = count(program, replace(board, flash_timing=flash))
    if counted.report != expected.tobytes():
        raise InputError(f"{network.name}: the outputs are not the model's")
    region = counted.profile[1]
    assert board.core.timing is not None
    cycles = model_of(counted.image, board.core.timing).cycles(region)
    return Inference(cycles, region.waits, network.target.clock_hz)


def _header(values: Sequence[int]) -> str:
    numbers = ", ".join(map(str, values))
    return f"#include <stdint.h>\n\nstatic int8_t input[] = {{ {numbers} }};\n"
