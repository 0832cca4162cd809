/*
 * zs_requantize.h - sums to int8, for one output channel: what FORMAT.md calls
 * mbqm, zero point and limits, with everything that all pixels share worked
 * out before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_REQUANTIZE_H
#define ZS_REQUANTIZE_H

#include "zs_internal.h"

struct zs_requantize {
    int32_t multiplier, shift; /* as in struct zs_scale */
    int32_t low, high;
    int32_t zero_point;
    bool simple;    /* shift < 0, and twice the sum fits 32 bits */
    bool unlimited; /* low and high are those of int8 */
};

/* |weight| and |activation|, zero points taken off, are at most 255. */
#define ZS_LARGEST_PRODUCT 65025

/* For sums of at most `terms` products and `bias`. */
static inline struct zs_requantize zs_requantize_for(const struct zs_output_stage *stage,
                                                     struct zs_scale scale, uint32_t bias,
                                                     uint32_t terms)
{
    const int32_t limit = 1 << 29;
    return (struct zs_requantize){
        .multiplier = scale.multiplier,
        .shift = scale.shift,
        .low = stage->low,
        .high = stage->high,
        .zero_point = stage->zero_point,
        .unlimited = stage->low == INT8_MIN && stage->high == INT8_MAX,
        .simple = scale.shift < 0 && terms <= (uint32_t)limit / ZS_LARGEST_PRODUCT
                  && (int32_t)bias > -limit && (int32_t)bias < limit,
    };
}

/* The general case. */
static inline int8_t zs_requantize_any(const struct zs_requantize *q, uint32_t sum)
{
    const int32_t scaled = zs_scale((int32_t)sum, q->multiplier, q->shift);
    return zs_clamp_s8(zs_wrap_add(scaled, q->zero_point), q->low, q->high);
}

/* 2^31 times smaller, rounded half up; twice the sum must fit 32 bits. */
static inline int32_t zs_multiply_high(uint32_t sum, int32_t multiplier)
{
#if ZS_DSP
    int32_t product; /* SMMULR: the high word, rounded */
    __asm__("smmulr %0, %1, %2" : "=r"(product) : "r"(sum + sum), "r"(multiplier));
    return product;
#else
    return zs_high_mul((int32_t)sum, multiplier);
#endif
}

/* For q->simple, without the limits. */
static inline int32_t zs_requantize_simple(const struct zs_requantize *q, uint32_t sum)
{
    const int32_t x = zs_multiply_high(sum, q->multiplier);
    return zs_round_shift_some(x, -q->shift) + q->zero_point;
}

static inline int8_t zs_saturate_s8(int32_t x)
{
#if ZS_DSP
    __asm__("ssat %0, #8, %1" : "=r"(x) : "r"(x));
    return (int8_t)x;
#else
    return zs_clamp_s8(x, INT8_MIN, INT8_MAX);
#endif
}

/* `n` sums of one channel to outputs `step` apart. */
void zs_requantize(const struct zs_requantize *requantize, const uint32_t *sums, int32_t n,
                   int8_t *out, int32_t step);

#endif
