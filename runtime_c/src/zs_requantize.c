/* zs_requantize.c - sums to int8. SPDX-License-Identifier: Apache-2.0 */
#include "zs_requantize.h"

#if ZS_INT8_KERNELS

void zs_requantize(const struct zs_requantize *requantize, const uint32_t *sums, int32_t n,
                   int8_t *out, int32_t step)
{
    const struct zs_requantize q = *requantize; /* a copy: `out` may point anywhere */
    const int8_t *end = out + n * step;
    if (q.simple && q.unlimited) {
        for (; out != end; out += step) {
            *out = zs_saturate_s8(zs_requantize_simple(&q, *sums++));
        }
    } else if (q.simple) {
        for (; out != end; out += step) {
            *out = zs_clamp_s8(zs_requantize_simple(&q, *sums++), q.low, q.high);
        }
    } else {
        for (; out != end; out += step) {
            *out = zs_requantize_any(&q, *sums++);
        }
    }
}

#endif
