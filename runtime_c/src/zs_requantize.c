/* zs_requantize.c - sums to int8. SPDX-License-Identifier: Apache-2.0 */
#include "zs_requantize.h"

#if ZS_INT8_KERNELS

#if ZS_DSP
/*
 * Four outputs at a time for q->simple && q->unlimited. In assembly because loads that follow each
 * other take a cycle each, and compilers spread them and gather the bytes into words.
 */
static inline void requantize_fours(const struct zs_requantize *q, const uint32_t *sums,
                                    int32_t fours, int8_t *out)
{
    const int8_t *end = out + 4 * fours;
    uint32_t a, b, c, d, e;
    __asm__ volatile(".balign 4\n1:\n\t"
                     "ldr %[a], [%[sums]], #16\n\t"
                     "ldr %[b], [%[sums], #-12]\n\t"
                     "ldr %[c], [%[sums], #-8]\n\t"
                     "ldr %[d], [%[sums], #-4]\n\t"
                     "add.w %[e], %[a], %[a]\n\t"
                     "smmlar %[e], %[e], %[multiplier], %[offset]\n\t"
                     "add.w %[a], %[e], %[a], asr #31\n\t"
                     "add.w %[e], %[b], %[b]\n\t"
                     "smmlar %[e], %[e], %[multiplier], %[offset]\n\t"
                     "add.w %[b], %[e], %[b], asr #31\n\t"
                     "add.w %[e], %[c], %[c]\n\t"
                     "smmlar %[e], %[e], %[multiplier], %[offset]\n\t"
                     "add.w %[c], %[e], %[c], asr #31\n\t"
                     "add.w %[e], %[d], %[d]\n\t"
                     "smmlar %[e], %[e], %[multiplier], %[offset]\n\t"
                     "add.w %[d], %[e], %[d], asr #31\n\t"
                     "asr.w %[a], %[a], %[right]\n\t"
                     "asr.w %[b], %[b], %[right]\n\t"
                     "asr.w %[c], %[c], %[right]\n\t"
                     "asr.w %[d], %[d], %[right]\n\t"
                     "ssat %[a], #8, %[a]\n\t"
                     "ssat %[b], #8, %[b]\n\t"
                     "ssat %[c], #8, %[c]\n\t"
                     "ssat %[d], #8, %[d]\n\t"
                     "strb %[a], [%[out]], #4\n\t"
                     "strb %[b], [%[out], #-3]\n\t"
                     "strb %[c], [%[out], #-2]\n\t"
                     "strb %[d], [%[out], #-1]\n\t"
                     "cmp.w %[out], %[end]\n\t"
                     "bne.w 1b\n\t"
                     : [sums] "+r"(sums), [out] "+r"(out), [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c),
                       [d] "=&r"(d), [e] "=&r"(e)
                     : [multiplier] "r"(q->multiplier), [right] "r"(q->right),
                       [offset] "r"(q->offset), [end] "r"(end)
                     : "cc", "memory");
}
#endif

void zs_requantize(const struct zs_requantize *requantize, const uint32_t *sums, int32_t n,
                   int8_t *out, int32_t step)
{
#if ZS_DSP
    if (step == 1 && n >= 4 && requantize->simple && requantize->unlimited) {
        const int32_t fours = n / 4;
        requantize_fours(requantize, sums, fours, out);
        sums += 4 * fours;
        out += 4 * fours;
        n -= 4 * fours;
        if (n == 0) {
            return;
        }
    }
#endif
    const struct zs_requantize q = *requantize; /* a copy: `out` may point anywhere */
    const int8_t *end = out + n * step;
#if !ZS_DSP /* it has made all but a few */
    if (q.simple && q.unlimited) {
        for (; out != end; out += step) {
            *out = zs_saturate_s8(zs_requantize_simple(&q, *sums++));
        }
        return;
    }
#endif
    if (q.simple) {
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
