"""Each compile-time option can be switched off: it builds without a warning, and containers that
need what was left out are refused as such while all others still run."""

import re
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from zeroskip.converters.container import describe

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("v*/*.zsk"))
CONFIG = resources.files("zeroskip.runtime_c").joinpath("include", "zs_config.h").read_text()
OPTIONS = re.findall(r"^#ifndef (ZS_\w+)$", CONFIG, re.MULTILINE)
OPTIONS.remove("ZS_CONFIG_H")
# Not -Wpedantic: it forbids the empty file that an op left out is.
WARNINGS = (
    "-Wall -Wextra -Wconversion -Wshadow -Wundef -Wvla -Wcast-align -Wcast-qual "
    "-Wmissing-prototypes -Wstrict-prototypes -Wswitch-enum -Werror"
).split()
OK, UNSUPPORTED = 0, -4

# Loads and runs a file; prints the status and the bytes of the first output.
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "zs.h"
int main(int argc, char **argv)
{
    static uint8_t blob[65536], input[65536];
    static uint32_t arena[1 << 16];
    for (int i = 1; i + 1 < argc; i += 2) {
        FILE *f = fopen(argv[i], "rb");
        const size_t size = fread(blob, 1, sizeof blob, f);
        fclose(f);
        f = fopen(argv[i + 1], "rb");
        const size_t input_size = fread(input, 1, sizeof input, f);
        fclose(f);
        struct zs_model model;
        struct zs_tensor_info info;
        enum zs_status status = zs_model_init(&model, blob, size);
        if (status == ZS_OK) {
            memcpy(zs_input(&model, arena, 0), input, input_size);
            status = zs_run(&model, arena, sizeof arena, NULL);
        }
        printf("%d ", (int)status);
        if (status == ZS_OK && zs_output_info(&model, 0, &info) == ZS_OK) {
            const uint8_t *out = zs_output(&model, arena, 0);
            for (size_t j = 0; j < info.size; j++) {
                printf("%02x", out[j]);
            }
        }
        printf("\\n");
    }
    return 0;
}
"""


NO_MODEL_NEEDS = {"ZS_STRERROR", "ZS_DSP", "ZS_SSE2"}


def lacks(option: str, path: Path) -> bool:
    """Whether the container needs what `option` = 0 leaves out."""
    if option in NO_MODEL_NEEDS:
        return False
    description = describe(path.read_bytes())
    if option.startswith("ZS_OP_"):
        return any(op.op == option[6:].lower() for op in description.ops)
    if option.startswith("ZS_CODEC_"):
        codec = option[9:].lower()
        names = [
            op.codec.split(",")[0].split("+") for op in description.ops if op.codec is not None
        ]
        return any(codec in pair for pair in names)
    dtype = {"ZS_INT8_KERNELS": "int8", "ZS_FLOAT32_KERNELS": "float32"}[option]
    arithmetic = {"conv", "fully_connected", "binary", "pool", "mean", "softmax", "unary"}
    return any(op.op in arithmetic and op.output.dtype == dtype for op in description.ops)


@pytest.mark.parametrize("option", OPTIONS)
def test_option_off(option: str, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(MAIN)
    program = tmp_path / "program"
    sources = sorted((ROOT / "runtime_c" / "src").glob("*.c"))
    includes = f"-I{ROOT / 'runtime_c' / 'include'}"
    common = ["cc", "-std=c99", "-O0", "-ffp-contract=off", f"-D{option}=0", includes]
    for source in sources:
        subprocess.run(
            [*common, *WARNINGS, "-c", str(source), "-o", str(tmp_path / f"{source.stem}.o")],
            check=True,
        )
    objects = [str(tmp_path / f"{source.stem}.o") for source in sources]
    subprocess.run([*common, str(tmp_path / "main.c"), *objects, "-o", str(program)], check=True)
    arguments, expected = [], []
    for index, path in enumerate(GOLDEN):
        with np.load(path.with_suffix(".npz")) as case:
            x, y = case["x"][0], case["y"][0]
        (tmp_path / f"{index}.bin").write_bytes(x.tobytes())
        arguments += [str(path), str(tmp_path / f"{index}.bin")]
        expected.append([str(UNSUPPORTED)] if lacks(option, path) else [str(OK), y.tobytes().hex()])
    printed = subprocess.run(
        [str(program), *arguments], check=True, capture_output=True, text=True
    ).stdout
    assert [line.split() for line in printed.splitlines()] == expected
    assert option in NO_MODEL_NEEDS or [str(UNSUPPORTED)] in expected
