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
    /* If simple: */
    int32_t right;  /* -shift */
    int32_t offset; /* the zero point, and a half, times 2^right */
    bool simple;    /* shift < 0, and twice the sum fits 32 bits */
    bool unlimited; /* low and high are those of int8 */
};

#define ZS_SIMPLE_SHIFT 21

/* |weight| and |activation|, zero points taken off, are at most 255. */
#define ZS_LARGEST_PRODUCT 65025u

/* `small`: twice a sum fits 32 bits. */
static inline struct zs_requantize zs_requantize_of(struct zs_scale scale, int32_t zero_point,
                                                    int32_t low, int32_t high, bool small)
{
    const bool simple = small && scale.shift < 0 && scale.shift >= -ZS_SIMPLE_SHIFT;
    const int32_t right = simple ? -scale.shift : 1;
    return (struct zs_requantize){
        .multiplier = scale.multiplier,
        .shift = scale.shift,
        .low = low,
        .high = high,
        .zero_point = zero_point,
        .right = right,
        .offset = (2 * zero_point + 1) * (1 << (right - 1)),
        .simple = simple,
        .unlimited = low == INT8_MIN && high == INT8_MAX,
    };
}

/* For sums of at most `terms` products and `bias`. */
static inline struct zs_requantize zs_requantize_for(const struct zs_output_stage *stage,
                                                     struct zs_scale scale, uint32_t bias,
                                                     uint32_t terms)
{
    const bool small = terms <= ZS_SMALL_SUM / ZS_LARGEST_PRODUCT && zs_is_small(bias);
    return zs_requantize_of(scale, stage->zero_point, stage->low, stage->high, small);
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
#elif defined(__ARM_ARCH_6M__)
    return zs_high_mul_halves((int32_t)sum, multiplier);
#else
    return zs_high_mul((int32_t)sum, multiplier);
#endif
}

/* The same with `offset` added. */
static inline int32_t zs_multiply_high_add(uint32_t sum, int32_t multiplier, int32_t offset)
{
#if ZS_DSP
    int32_t product;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(product) : "r"(sum + sum), "r"(multiplier), "r"(offset));
    return product;
#else
    return zs_multiply_high(sum, multiplier) + offset;
#endif
}

/*
 * For q->simple, without the limits: as zs_scale(), with half of the last place and the zero point
 * added before the shift. What rounds halves away from 0 takes 1 off negative sums; for those that
 * are 0 when multiplied it makes no difference.
 */
static inline int32_t zs_requantize_simple(const struct zs_requantize *q, uint32_t sum)
{
    /* cppcheck-suppress shiftTooManyBitsSigned */
    const int32_t nudge = (int32_t)sum >> 31;
    return (zs_multiply_high_add(sum, q->multiplier, q->offset) + nudge) >> q->right;
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
