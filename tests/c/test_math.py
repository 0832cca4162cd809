"""Fixed-point arithmetic of zs_math.h."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MAIN = """
#include <stdint.h>
#include <stdio.h>
#include "zs_math.h"

int main(void)
{
    static const int32_t edges[] = { 0, 1, 2, 32767, 32768, 65535, 65536, 65537, 1 << 29,
                                     (1 << 30) - 1, 1 << 30, INT32_MAX - 1, INT32_MAX };
    const int n = sizeof edges / sizeof *edges;
    uint32_t state = 1;
    long differences = 0, tried = 0;
    for (int i = 0; i < 2000000; i++) {
        int32_t pair[2];
        for (int k = 0; k < 2; k++) {
            state = state * 1664525u + 1013904223u;
            const uint32_t bits = state >> 27; /* of all sizes */
            state = state * 1664525u + 1013904223u;
            pair[k] = (int32_t)state >> (bits & 31);
        }
        if (i < 4 * n * n) {
            pair[0] = edges[i % n] * (i & 1 ? 1 : -1);
            pair[1] = edges[i / n % n];
        }
        const int32_t a = pair[0], b = pair[1] < 0 ? ~pair[1] : pair[1];
        tried++;
        differences += zs_high_mul(a, b) != zs_high_mul_halves(a, b);
    }
    differences += zs_high_mul(INT32_MIN, INT32_MAX) != zs_high_mul_halves(INT32_MIN, INT32_MAX);
    printf("%ld %ld", tried, differences);
    return 0;
}
"""


def test_products_by_halves_are_those_of_64_bits(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(MAIN)
    program = str(tmp_path / "main")
    flags = ("-std=c99", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    includes = (f"-I{ROOT / 'runtime_c' / 'src'}", f"-I{ROOT / 'runtime_c' / 'include'}")
    subprocess.run(["cc", *flags, *includes, str(tmp_path / "main.c"), "-o", program], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed == "2000000 0"
