/* zs_conv_tile_s8.h - tiles of int8 pixels, in C. SPDX-License-Identifier: Apache-2.0 */
#ifndef ZS_CONV_TILE_S8_H
#define ZS_CONV_TILE_S8_H

struct tap {
    int32_t offset; /* of its input element for the region's first pixel */
    int32_t weight;
};
#define TAPS_SIZE(n) ((n) * (uint32_t)sizeof(struct tap))

static inline struct tap *put_tap(struct tap *next, int32_t i, int32_t offset, weight_t weight)
{
    (void)i;
    *next = (struct tap){ .offset = offset, .weight = weight };
    return next + 1;
}

static inline struct tap *put_two(struct tap *next, int32_t offset, weight_t weight, int32_t second,
                                  weight_t second_weight)
{
    next[0] = (struct tap){ .offset = offset, .weight = weight };
    next[1] = (struct tap){ .offset = second, .weight = second_weight };
    return next + 2;
}

#if defined(__ARM_ARCH_6M__)
#include "zs_conv_tile_v6m.h"
#else
/* Sums of n >= TILE pixels whose input elements are `step` apart. The last tile may overlap the
 * one before. */
static inline void tiles(const struct tap *taps, int32_t n, const int8_t *in, int32_t step,
                         uint32_t start, uint32_t *sums, int32_t pixels)
{
    const struct tap *end = taps + n;
    for (int32_t i = 0; i < pixels; i += TILE) {
        i = i > pixels - TILE ? pixels - TILE : i;
        uint32_t a0 = start, a1 = start, a2 = start, a3 = start;
        for (const struct tap *tap = taps; tap < end; tap++) {
            const int8_t *x = in + i * step + tap->offset;
            a0 += (uint32_t)(tap->weight * x[0]);
            a1 += (uint32_t)(tap->weight * x[step]);
            a2 += (uint32_t)(tap->weight * x[2 * step]);
            a3 += (uint32_t)(tap->weight * x[3 * step]);
        }
        sums[i] = a0;
        sums[i + 1] = a1;
        sums[i + 2] = a2;
        sums[i + 3] = a3;
    }
}
#endif

static inline uint32_t pixel(const struct tap *taps, int32_t n, const int8_t *in, uint32_t sum)
{
    const struct tap *end = taps + n;
    for (; taps < end; taps++) {
        sum += (uint32_t)(taps->weight * in[taps->offset]);
    }
    return sum;
}

#endif
