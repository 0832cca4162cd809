"""The committed table of the cycle models' errors."""

import re
from pathlib import Path

from zeroskip import boards
from zeroskip.emulation.profile import FLASH_KNOWN_ERROR

TABLE = Path(__file__).parents[2] / "benchmarks" / "timing_validation.md"
ROW = re.compile(
    r"\| (.+) \| ([\d.,]+) \| ([\d.,]+) \| ([+-][\d.]+) % \| (?:(\d+) %|not held to it) \|"
)
# The most that each may be allowed.
CORES = {"cortex-m4": 6, "cortex-m7": 10, "cortex-m33": 6, "cortex-m0plus": 2}
LIMITS = {"ML-KEM": 3, "NUCLEO_L4R5ZI": 15, **CORES}


def test_every_program_is_within_its_limit() -> None:
    rows = ROW.findall(TABLE.read_text())
    assert sum("ML-KEM" in row[0] for row in rows) == 9
    cores = {row[0].split()[1] for row in rows if "CoreMark" in row[0]}
    assert cores == {*CORES, "cortex-m55"}
    assert sum("NUCLEO_L4R5ZI" in row[0] for row in rows) == 3
    for what, published, estimated, error, allowed in rows:
        found = 100 * (number(estimated) / number(published) - 1)
        assert abs(found - float(error)) < 0.06, what
        limit = next((v for k, v in LIMITS.items() if k in what), None)
        assert (allowed == "") == (limit is None), what
        if limit is not None:
            assert abs(float(error)) <= float(allowed) <= limit, what


def test_known_errors_are_those_of_the_table() -> None:
    """Of M4 on ML-KEM, to a tenth; of what has only been compared on CoreMark, to a percent."""
    rows = ROW.findall(TABLE.read_text())
    said = {name: known_error(name) for name in boards.core_names()}
    kem = [abs(float(error)) for what, _, _, error, _ in rows if "ML-KEM" in what]
    assert f"{min(kem):.1f} to {max(kem):.1f} % low" in said["cortex-m4"]
    for core in ("cortex-m7", "cortex-m33", "cortex-m55"):
        found = [abs(float(error)) for what, _, _, error, _ in rows if f"{core} " in what]
        ends = dict.fromkeys(f"{end:.0f}" for end in (min(found), max(found)))
        assert f"{' to '.join(ends)} % fast" in said[core]
    networks = [abs(float(error)) for what, _, _, error, _ in rows if "NUCLEO_L4R5ZI" in what]
    assert f"{min(networks):.0f} to {max(networks):.0f} % off" in FLASH_KNOWN_ERROR


def known_error(core: str) -> str:
    timing = boards.load_core(core).timing
    assert timing is not None and len(timing.known_error) > 20
    return timing.known_error


def number(text: str) -> float:
    return float(text.replace(",", ""))
