/*
 * zs_math.c - float functions without libm, operation by operation those of
 * converters/numerics.py; polynomials from the Cephes library (expf, tanhf).
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_math.h"

#include <string.h>

int32_t zs_round_f32(float x, int32_t low, int32_t high)
{
    if (!(x > (float)low)) {
        return x <= (float)low ? low : zs_clamp(0, low, high); /* the latter for NaN */
    }
    if (x >= (float)high) {
        return high;
    }
    /* |x| is small here: the cast is exact, and so is the fraction left over. */
    const int32_t whole = (int32_t)x;
    const float fraction = x - (float)whole;
    return whole + (fraction >= 0.5f) - (fraction <= -0.5f);
}

float zs_exp_f32(float x)
{
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    if (x != x) {
        return x;
    }
    const float t = x * 1.44269504088896341f + 0.5f;
    int32_t n = (int32_t)t;
    n -= (float)n > t;
    const float whole = (float)n;
    x -= whole * 0.693359375f;
    x -= whole * -2.12194440e-4f;
    const float z = x * x;
    float y = 1.9875691500e-4f;
    y = y * x + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * z + x;
    y = y + 1.0f;
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

float zs_sigmoid_f32(float x)
{
    return 1.0f / (1.0f + zs_exp_f32(-x));
}

float zs_tanh_f32(float x)
{
    const float a = x < 0.0f ? -x : x;
    if (a < 0.625f) {
        const float s = x * x;
        float z = -5.70498872745e-3f;
        z = z * s + 2.06390887954e-2f;
        z = z * s - 5.37397155531e-2f;
        z = z * s + 1.33314422036e-1f;
        z = z * s - 3.33332819422e-1f;
        z = z * s;
        z = z * x;
        return z + x;
    }
    const float z = 1.0f - 2.0f / (zs_exp_f32(a + a) + 1.0f);
    return x < 0.0f ? -z : z;
}
