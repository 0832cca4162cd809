/*
 * zs_math.h - fixed-point and float arithmetic, bit-exact by contract.
 *
 * Integer functions are TensorFlow Lite's (double rounding); sums wrap at 32
 * bits, hence the unsigned types. Right shifts of negative numbers must be
 * arithmetic, which every compiler for the supported cores guarantees.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_MATH_H
#define ZS_MATH_H

#include <stdbool.h>
#include <stdint.h>

/* Of products and of a bias, so that twice their sum fits 32 bits. */
#define ZS_SMALL_SUM (1u << 29)

static inline bool zs_is_small(uint32_t bias)
{
    return bias + ZS_SMALL_SUM <= 2 * ZS_SMALL_SUM;
}

/* a * b / 2^31, rounded to nearest, halves up; a and b must not both be INT32_MIN. */
static inline int32_t zs_high_mul(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* The same for b >= 0, by 16-bit halves: for cores without a long multiply. */
static inline int32_t zs_high_mul_halves(int32_t a, int32_t b)
{
    const int32_t high_a = a >> 16, high_b = b >> 16;
    const uint32_t low_a = (uint32_t)a & 0xffff, low_b = (uint32_t)b & 0xffff;
    const uint32_t middle = low_a * (uint32_t)high_b + (low_a * low_b >> 16);
    const int32_t sum = (int32_t)(middle & 0xffff) + high_a * (int32_t)low_b;
    const int32_t high = high_a * high_b + (int32_t)(middle >> 16) + (sum >> 16);
    /* Twice the high word, and the two upper bits of the low one, rounded. */
    return (int32_t)(2 * (uint32_t)high + ((((uint32_t)sum >> 14 & 3) + 1) >> 1));
}

/* x / 2^exponent, rounded to nearest, halves away from 0; exponent 1 to 31, x not INT32_MIN. */
static inline int32_t zs_round_shift_some(int32_t x, int32_t exponent)
{
    /* Half of 2^exponent is added after a shift, where it cannot overflow. */
    /* cppcheck-suppress shiftTooManyBitsSigned */
    return (((x + (x >> 31)) >> (exponent - 1)) + 1) >> 1;
}

/* The same for exponents 0 to 31. */
static inline int32_t zs_round_shift(int32_t x, int32_t exponent)
{
    return exponent == 0 ? x : zs_round_shift_some(x, exponent);
}

/* Times 2^exponent, wrapping at 32 bits. */
static inline int32_t zs_shift_left(int32_t x, int32_t exponent)
{
    return (int32_t)((uint32_t)x << exponent);
}

/* FORMAT.md: mbqm. */
static inline int32_t zs_scale(int32_t x, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift > 0 ? 0 : -shift;
    return zs_round_shift(zs_high_mul(zs_shift_left(x, left), multiplier), right);
}

/* sum / count, rounded to nearest, halves away from 0. */
static inline int32_t zs_round_divide(int32_t sum, int32_t count)
{
    const uint32_t half = (uint32_t)count / 2; /* unsigned: one division routine on small cores */
    if (sum > 0) {
        return (int32_t)(((uint32_t)sum + half) / (uint32_t)count);
    }
    return -(int32_t)((half - (uint32_t)sum) / (uint32_t)count);
}

static inline int32_t zs_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

static inline int8_t zs_clamp_s8(int32_t x, int32_t low, int32_t high)
{
    return (int8_t)zs_clamp(x, low, high);
}

/* a + b without undefined overflow. */
static inline int32_t zs_wrap_add(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

static inline float zs_clamp_f32(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

/* x rounded to the nearest integer, halves away from 0, clamped; NaN gives 0. */
int32_t zs_round_f32(float x, int32_t low, int32_t high);

float zs_exp_f32(float x);
float zs_tanh_f32(float x);

/* 1 / (1 + exp(-x)) */
float zs_sigmoid_f32(float x);

#endif
