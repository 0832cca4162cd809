/*
 * zs_conv_tile.h - tiles of pixels, in C, for any element type: all
 * multiply-accumulates of a convolution. Wants what zs_conv_kernel.h wants.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_TILE_H
#define ZS_CONV_TILE_H

/* Neighbouring pixels at a time where the core has vectors. */
#if defined(__SSE2__) || defined(__ARM_NEON)
#define WIDE_TILE 16
#else
#define WIDE_TILE TILE
#endif

struct tap {
    int32_t offset; /* of its input element for the region's first pixel */
    tap_weight_t weight;
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
    return put_tap(put_tap(next, 0, offset, weight), 1, second, second_weight);
}

static inline sum_t pixel(const struct tap *taps, int32_t n, const element_t *in, sum_t sum)
{
    const struct tap *end = taps + n;
    for (; taps < end; taps++) {
        sum = multiply_add(sum, taps->weight, in[taps->offset]);
    }
    return sum;
}

#if defined(__ARM_ARCH_6M__) && defined(ZS_CONV_S8)
#include "zs_conv_tile_v6m.h"
#elif defined(__ARM_ARCH_7M__) && defined(ZS_CONV_S8)
#include "zs_conv_tile_v7m.h"
#else
/* Sums of WIDE_TILE neighbouring pixels; a compiler for a core with vectors makes them of it. */
static inline void wide_tile(const struct tap *tap, const struct tap *end, const element_t *in,
                             sum_t start, sum_t *sums)
{
    sum_t a[WIDE_TILE];
    for (int32_t k = 0; k < WIDE_TILE; k++) {
        a[k] = start;
    }
    for (; tap < end; tap++) {
        const element_t *x = in + tap->offset;
        const weight_t weight = (weight_t)tap->weight;
        for (int32_t k = 0; k < WIDE_TILE; k++) {
            a[k] = multiply_add(a[k], weight, x[k]);
        }
    }
    memcpy(sums, a, sizeof a);
}

/* Sums of n >= TILE pixels whose input elements are `step` apart. The last tile may overlap the
 * one before. */
static inline void line_of_tiles(const struct tap *taps, int32_t n, const element_t *in,
                                 int32_t step, sum_t start, sum_t *sums, int32_t pixels)
{
    const struct tap *end = taps + n;
    int32_t i = 0;
    for (; WIDE_TILE > TILE && step == 1 && pixels - i >= WIDE_TILE; i += WIDE_TILE) {
        wide_tile(taps, end, in + i, start, sums + i);
    }
    for (; i < pixels; i += TILE) {
        i = i > pixels - TILE ? pixels - TILE : i;
        sum_t a0 = start, a1 = start, a2 = start, a3 = start;
        for (const struct tap *tap = taps; tap < end; tap++) {
            const element_t *x = in + i * step + tap->offset;
            a0 = multiply_add(a0, tap->weight, x[0]);
            a1 = multiply_add(a1, tap->weight, x[step]);
            a2 = multiply_add(a2, tap->weight, x[2 * step]);
            a3 = multiply_add(a3, tap->weight, x[3 * step]);
        }
        sums[i] = a0;
        sums[i + 1] = a1;
        sums[i + 2] = a2;
        sums[i + 3] = a3;
    }
}

/* Those of lines that are `next` apart. */
static inline void tiles(const struct tap *taps, int32_t n, const element_t *in, int32_t step,
                         sum_t start, sum_t *sums, int32_t pixels, int32_t lines, int32_t next)
{
    for (; lines > 0; lines--, in += next, sums += pixels) {
        line_of_tiles(taps, n, in, step, start, sums, pixels);
    }
}
#endif

#endif
