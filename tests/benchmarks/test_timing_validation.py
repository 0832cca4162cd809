"""The committed table of the cycle models' errors."""

import re
from pathlib import Path

from zeroskip import boards

TABLE = Path(__file__).parents[2] / "benchmarks" / "timing_validation.md"
ROW = re.compile(
    r"\| (.+) \| ([\d.,]+) \| ([\d.,]+) \| ([+-][\d.]+) % \| (?:(\d+) %|not held to it) \|"
)
# The most that each may be allowed.
LIMITS = {"ML-KEM": 3, "cortex-m4": 6, "cortex-m7": 10, "cortex-m33": 6, "cortex-m0plus": 2}


def test_every_program_is_within_its_limit() -> None:
    rows = ROW.findall(TABLE.read_text())
    assert sum("ML-KEM" in row[0] for row in rows) == 9
    cores = {row[0].split()[1] for row in rows if "CoreMark" in row[0]}
    assert cores == {*LIMITS, "cortex-m55"} - {"ML-KEM"}
    for what, published, estimated, error, allowed in rows:
        found = 100 * (number(estimated) / number(published) - 1)
        assert abs(found - float(error)) < 0.06, what
        limit = next((v for k, v in LIMITS.items() if k in what), None)
        assert (allowed == "") == (limit is None), what
        if limit is not None:
            assert abs(float(error)) <= float(allowed) <= limit, what


def test_known_errors_are_those_of_the_table() -> None:
    rows = ROW.findall(TABLE.read_text())
    errors: dict[str, list[float]] = {}
    for what, _, _, error, _ in rows:
        core = "cortex-m4" if "ML-KEM" in what else what.split()[1]
        if core != "cortex-m4" or "ML-KEM" in what:
            errors.setdefault(core, []).append(abs(float(error)))
    for core, found in errors.items():
        timing = boards.load_core(core).timing
        assert timing is not None
        ends = sorted({f"{end:.1f}" if core == "cortex-m4" else f"{end:.0f}" for end in
                       (min(found), max(found))})  # fmt: skip
        if core != "cortex-m0plus":
            assert f"{' to '.join(ends)} %" in timing.known_error, core


def test_every_core_says_how_wrong_it_may_be() -> None:
    for name in boards.core_names():
        timing = boards.load_core(name).timing
        assert timing is not None and len(timing.known_error) > 20, name


def number(text: str) -> float:
    return float(text.replace(",", ""))
