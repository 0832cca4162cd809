/*
 * zs_op_softmax.c - softmax along an axis. int8: TensorFlow Lite's reference
 * algorithm on gemmlowp's fixed-point numbers, written Qi for i integer bits.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_internal.h"
#include "zs_math.h"

#if ZS_OP_SOFTMAX

struct softmax {
    struct zs_tensor in, out;
    unsigned axis;
    int32_t multiplier, left_shift, diff_min;
    float beta;
    uint32_t outer, inner; /* elements before and after the axis */
};

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct softmax *p)
{
    zs_tensor_read(ctx, r, &p->in);
    zs_tensor_read(ctx, r, &p->out);
    p->axis = zs_reader_u8(r);
    p->multiplier = p->left_shift = p->diff_min = 0;
    p->beta = 0.0f;
    if (zs_is_float(p->in.dtype)) {
        p->beta = zs_read_finite(r);
    } else {
        p->multiplier = zs_reader_svar(r);
        p->left_shift = zs_reader_svar(r);
        p->diff_min = zs_reader_svar(r);
        if (p->multiplier < 0 || p->left_shift < 0 || p->left_shift > 31) {
            zs_reader_fail(r);
        }
    }
    p->outer = p->inner = 1;
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        p->outer *= i < p->axis ? p->in.dims[i] : 1;
        p->inner *= i > p->axis ? p->in.dims[i] : 1;
    }
}

static enum zs_status check(const struct zs_reader *r, const struct softmax *p)
{
    if (!zs_reader_ok(r) || !zs_check_unary(&p->in, &p->out, false) || p->axis >= p->in.rank
        || p->in.rank != p->out.rank || p->in.count != p->out.count) {
        return ZS_ERR_FORMAT;
    }
    return ZS_OK;
}

#if ZS_INT8_KERNELS

/* Out of line: a softmax is short, and there are many. */
static ZS_NOINLINE int32_t multiply(int32_t a, int32_t b)
{
    return zs_high_mul(a, b);
}

/* x * 2^exponent, saturating. */
static int32_t shift_saturating(int32_t x, int32_t exponent)
{
    const int32_t limit = INT32_MAX >> exponent;
    return x > limit ? INT32_MAX : x < -limit ? INT32_MIN : zs_shift_left(x, exponent);
}

/* exp(a) for a Q0 in [-1/4, 0): Taylor series about -1/8. */
static int32_t exp_small(int32_t a)
{
    const int32_t exp_of_minus_eighth = 1895147668;
    const int32_t third = 715827883;
    const int32_t x = a + (1 << 28);
    const int32_t x2 = multiply(x, x);
    const int32_t x3 = multiply(x2, x);
    const int32_t x4_over_4 = zs_round_shift(multiply(x2, x2), 2);
    const int32_t tail = zs_round_shift(multiply(x4_over_4 + x3, third) + x2, 1);
    return zs_wrap_add(exp_of_minus_eighth, multiply(exp_of_minus_eighth, x + tail));
}

/* exp(a) as Q0 for a <= 0 in Q5. */
static int32_t exp_negative(int32_t a)
{
    static const int32_t factors[7] = {
        /* exp(-2^i) as Q0, i from -2 */
        1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242,
    };
    if (a == 0) {
        return INT32_MAX;
    }
    const int32_t quarter = 1 << 24;
    const int32_t a_mod_quarter = (a & (quarter - 1)) - quarter;
    int32_t result = exp_small(shift_saturating(a_mod_quarter, 5));
    const uint32_t remainder = (uint32_t)a_mod_quarter - (uint32_t)a;
    for (unsigned i = 0; i < 7; i++) {
        if ((remainder >> (24 + i) & 1) != 0) {
            result = multiply(result, factors[i]);
        }
    }
    return result;
}

/* 1 / (1 + a) as Q0 for a Q0 in [0, 1): Newton-Raphson on (1 + a) / 2. */
static int32_t reciprocal(int32_t a)
{
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) / 2);
    int32_t x = 1515870810 + multiply(half, -1010580540); /* Q2: 48/17 - 32/17 * half */
    for (unsigned i = 0; i < 3; i++) {
        const int32_t error = (int32_t)((1u << 29) - (uint32_t)multiply(half, x));
        x = zs_wrap_add(x, shift_saturating(multiply(x, error), 2));
    }
    return shift_saturating(x, 1);
}

static int32_t exp_of_difference(const struct softmax *p, int32_t difference)
{
    const int32_t scaled = multiply(zs_shift_left(difference, p->left_shift), p->multiplier);
    return exp_negative(scaled < 0 ? scaled : 0);
}

static unsigned count_leading_zeros(uint32_t x)
{
    unsigned n = 0;
    for (; n < 31 && (x & 0x80000000u) == 0; n++) {
        x <<= 1;
    }
    return n;
}

static void softmax_s8(const struct softmax *p, const int8_t *in, int8_t *out)
{
    const uint32_t n = p->in.dims[p->axis];
    int32_t max = -128;
    for (uint32_t i = 0; i < n; i++) {
        max = in[i * p->inner] > max ? in[i * p->inner] : max;
    }
    uint32_t sum = 0; /* Q12; at most 65,535 * 2^19 + rounding: hostile sizes wrap */
    for (uint32_t i = 0; i < n; i++) {
        const int32_t difference = in[i * p->inner] - max;
        if (difference >= p->diff_min) {
            sum += (uint32_t)zs_round_shift(exp_of_difference(p, difference), 12);
        }
    }
    const unsigned headroom = count_leading_zeros(sum);
    const int32_t scale = reciprocal((int32_t)((sum << headroom) - (1u << 31)));
    const int32_t exponent = zs_clamp(12 - (int32_t)headroom + 31 - 8, 0, 31);
    for (uint32_t i = 0; i < n; i++) {
        const int32_t difference = in[i * p->inner] - max;
        int32_t value = -128;
        if (difference >= p->diff_min) {
            const int32_t product = multiply(scale, exp_of_difference(p, difference));
            value = zs_round_shift(product, exponent) - 128;
        }
        out[i * p->inner] = zs_clamp_s8(value, -128, 127);
    }
}

#endif

#if ZS_FLOAT32_KERNELS
static void softmax_f32(const struct softmax *p, const float *in, float *out)
{
    const uint32_t n = p->in.dims[p->axis];
    float max = in[0];
    for (uint32_t i = 1; i < n; i++) {
        max = in[i * p->inner] > max ? in[i * p->inner] : max;
    }
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        const float e = zs_exp_f32((in[i * p->inner] - max) * p->beta);
        out[i * p->inner] = e;
        sum += e;
    }
    for (uint32_t i = 0; i < n; i++) {
        out[i * p->inner] /= sum;
    }
}
#endif

ZS_COLD enum zs_status zs_op_softmax(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct softmax p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return !zs_has_kernels(p.in.dtype) ? ZS_ERR_UNSUP : check(r, &p);
    }
    const void *in = zs_tensor_input(ctx, &p.in);
    void *out = zs_tensor_output(ctx, &p.out);
    for (uint32_t i = 0; i < p.outer; i++) {
        for (uint32_t j = 0; j < p.inner; j++) {
            const uint32_t at = i * p.in.dims[p.axis] * p.inner + j;
#if ZS_FLOAT32_KERNELS
            if (p.in.dtype == ZS_FLOAT32) {
                softmax_f32(&p, (const float *)in + at, (float *)out + at);
            }
#endif
#if ZS_INT8_KERNELS
            if (p.in.dtype == ZS_INT8) {
                softmax_s8(&p, (const int8_t *)in + at, (int8_t *)out + at);
            }
#endif
        }
    }
    return ZS_OK;
}

#endif
