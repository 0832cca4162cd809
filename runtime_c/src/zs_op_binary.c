/* zs_op_binary.c - add, sub, mul with broadcasting. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"
#include "zs_math.h"
#include "zs_requantize.h"

#if ZS_OP_BINARY

enum {
    KIND_ADD = 0,
    KIND_SUB = 1,
    KIND_MUL = 2
};

struct binary {
    struct zs_tensor a, b, out;
    uint8_t kind;
    int32_t left_shift;
    int32_t multiplier[3], shift[3]; /* a, b, output */
    int32_t low, high;
    float low_f32, high_f32;
    uint32_t stride_a[ZS_MAX_RANK], stride_b[ZS_MAX_RANK]; /* 0 along broadcast axes */
    uint32_t dims[ZS_MAX_RANK];                            /* of the output, right-aligned */
};

/* Strides of a tensor laid over the output's axes; false if it does not broadcast. */
static bool broadcast(const struct zs_tensor *t, const struct zs_tensor *out, uint32_t *strides)
{
    uint32_t stride = 1;
    if (t->rank > out->rank) {
        return false;
    }
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) { /* from the last axis on */
        const unsigned axis = ZS_MAX_RANK - 1 - i;
        strides[axis] = 0;
        if (i < t->rank) {
            const uint32_t dim = t->dims[t->rank - 1 - i];
            if (dim != 1) {
                if (dim != out->dims[out->rank - 1 - i]) {
                    return false;
                }
                strides[axis] = stride;
            }
            stride *= dim;
        }
    }
    return true;
}

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct binary *p)
{
    zs_tensor_read(ctx, r, &p->a);
    zs_tensor_read(ctx, r, &p->b);
    zs_tensor_read(ctx, r, &p->out);
    p->kind = zs_reader_u8(r);
    p->left_shift = 0;
    if (zs_is_float(p->out.dtype)) {
        zs_read_range_f32(r, &p->low_f32, &p->high_f32);
    } else {
        p->left_shift = (int32_t)zs_reader_var(r);
        for (unsigned i = 0; i < 3; i++) {
            zs_read_scale(r, &p->multiplier[i], &p->shift[i]);
        }
        zs_read_range_s8(r, &p->low, &p->high);
    }
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        const unsigned lead = ZS_MAX_RANK - p->out.rank;
        p->dims[i] = i < lead ? 1 : p->out.dims[i - lead];
    }
    if (!broadcast(&p->a, &p->out, p->stride_a) || !broadcast(&p->b, &p->out, p->stride_b)) {
        zs_reader_fail(r);
    }
}

static bool may_write(const struct zs_tensor *in, const struct zs_tensor *out)
{
    return (!in->constant && in->location == out->location && in->size == out->size)
           || !zs_tensor_overlaps(in, out->location, out->size);
}

static enum zs_status check(const struct zs_reader *r, const struct binary *p)
{
    if (!zs_reader_ok(r) || p->out.constant || p->a.dtype != p->out.dtype
        || p->b.dtype != p->out.dtype || p->out.dtype == ZS_UINT8 || p->kind > KIND_MUL
        || p->left_shift < 0 || p->left_shift > 24 || !may_write(&p->a, &p->out)
        || !may_write(&p->b, &p->out)) {
        return ZS_ERR_FORMAT;
    }
    return ZS_OK;
}

#if ZS_INT8_KERNELS
#define RUN 32 /* elements between two calls of zs_requantize() */

struct operand {
    const int8_t *next;
    uint32_t step;
    int32_t zero_point, left_shift, multiplier, shift;
};

static inline int32_t next_of(struct operand *x)
{
    const int32_t value = *x->next - x->zero_point;
    x->next += x->step;
    return value;
}

/* Add `sign` times the next `n` of an operand, in the common scale, to `sums`. */
static ZS_NOINLINE void add_scaled(struct operand *operand, uint32_t sign, uint32_t *sums,
                                   uint32_t n)
{
    struct operand x = *operand; /* in registers */
    const uint32_t *end = sums + n;
    if (x.shift > 0 || x.left_shift > 21) {
        while (sums < end) {
            const int32_t wide = zs_shift_left(next_of(&x), x.left_shift);
            *sums++ += sign * (uint32_t)zs_scale(wide, x.multiplier, x.shift);
        }
    } else if (x.shift == 0) {
        while (sums < end) {
            const uint32_t wide = (uint32_t)zs_shift_left(next_of(&x), x.left_shift);
            *sums++ += sign * (uint32_t)zs_multiply_high(wide, x.multiplier);
        }
    } else {
        while (sums < end) {
            const uint32_t wide = (uint32_t)zs_shift_left(next_of(&x), x.left_shift);
            const int32_t scaled = zs_multiply_high(wide, x.multiplier);
            *sums++ += sign * (uint32_t)zs_round_shift_some(scaled, -x.shift);
        }
    }
    operand->next = x.next;
}

/* Products of the next `n` of both operands. */
static void multiply(struct operand *x, struct operand *y, uint32_t *to, uint32_t n)
{
    for (const uint32_t *end = to + n; to < end; to++) {
        const int32_t first = next_of(x);
        *to = (uint32_t)(first * next_of(y));
    }
}

static struct operand operand_of(const struct binary *p, const struct zs_tensor *tensor,
                                 const int8_t *data, unsigned i, uint32_t step)
{
    return (struct operand){
        .next = data,
        .step = step,
        .zero_point = tensor->zero_point,
        .left_shift = p->left_shift,
        .multiplier = p->multiplier[i],
        .shift = p->shift[i],
    };
}

/* A left shift by 20 and a multiplier of 1/2, as TensorFlow Lite gives the coarser operand. */
static bool is_halved(const struct binary *p, unsigned i)
{
    return p->multiplier[i] == 1 << 30 && p->shift[i] == 0;
}

/*
 * Sums of an operand that is halved, x, and another that is scaled, y: all of it in registers.
 * Only for what is_plain_sum() allows.
 */
static ZS_NOINLINE void add_plain(const struct binary *p, const struct zs_requantize *requantize,
                                  const int8_t *x, const int8_t *y, unsigned scaled, int8_t *out)
{
    const struct zs_requantize q = *requantize;
    const int32_t multiplier = p->multiplier[scaled], right = -p->shift[scaled];
    const int32_t half = 1 << (right - 1);
    const struct zs_tensor *tensors[2] = { &p->a, &p->b };
    const uint32_t zero_x = (uint32_t)tensors[1 - scaled]->zero_point << 19;
    const uint32_t zero_y = (uint32_t)tensors[scaled]->zero_point << 20;
    for (const int8_t *end = out + p->dims[3]; out < end;) {
        const uint32_t u = ((uint32_t)(int32_t)*x++ << 19) - zero_x;
        const uint32_t v = ((uint32_t)(int32_t)*y++ << 20) - zero_y;
        /* As zs_round_shift_some(): see zs_requantize_simple(). */
        /* cppcheck-suppress shiftTooManyBitsSigned */
        const int32_t nudge = (int32_t)v >> 31;
        const int32_t w = (zs_multiply_high_add(v, multiplier, half) + nudge) >> right;
        *out++ = zs_saturate_s8(zs_requantize_simple(&q, u + (uint32_t)w));
    }
}

static bool is_plain_sum(const struct binary *p, const struct zs_requantize *requantize,
                         unsigned scaled)
{
    return p->kind == KIND_ADD && p->left_shift == 20 && requantize->simple && requantize->unlimited
           && p->stride_a[3] == 1 && p->stride_b[3] == 1 && is_halved(p, 1 - scaled)
           && p->shift[scaled] < 0 && p->shift[scaled] >= -ZS_SIMPLE_SHIFT;
}

static void run_s8(const struct binary *p, const int8_t *a, const int8_t *b, int8_t *out)
{
    struct operand x = operand_of(p, &p->a, a, 0, p->stride_a[3]);
    struct operand y = operand_of(p, &p->b, b, 1, p->stride_b[3]);
    const struct zs_scale scale = { p->multiplier[2], p->shift[2] };
    /* Operands of 9 bits are shifted by 20 at most, then added. */
    const bool small = p->left_shift <= 20 && p->shift[0] <= 0 && p->shift[1] <= 0;
    const struct zs_requantize requantize =
        zs_requantize_of(scale, p->out.zero_point, p->low, p->high, small);
    for (unsigned scaled = 0; scaled < 2; scaled++) {
        if (is_plain_sum(p, &requantize, scaled)) {
            add_plain(p, &requantize, scaled == 0 ? b : a, scaled == 0 ? a : b, scaled, out);
            return;
        }
    }
    uint32_t n; /* elements of a block */
    for (uint32_t left = p->dims[3]; left != 0; left -= n, out += n) {
        n = left < RUN ? left : RUN;
        uint32_t sums[RUN] = { 0 };
        if (p->kind == KIND_MUL) {
            multiply(&x, &y, sums, n);
        } else {
            add_scaled(&x, 1, sums, n);
            add_scaled(&y, p->kind == KIND_ADD ? 1 : UINT32_MAX, sums, n);
        }
        zs_requantize(&requantize, sums, (int32_t)n, out, 1);
    }
}
#endif

#if ZS_FLOAT32_KERNELS
static float apply_f32(const struct binary *p, float a, float b)
{
    const float raw = p->kind == KIND_ADD ? a + b : p->kind == KIND_SUB ? a - b : a * b;
    return zs_clamp_f32(raw, p->low_f32, p->high_f32);
}
#endif

/* Make one run of axes that all operands walk through alike. */
static void join_axes(struct binary *p)
{
    for (unsigned i = ZS_MAX_RANK - 1; i-- > 0;) {
        const uint32_t n = p->dims[3];
        if (p->dims[i] != 1
            && (p->stride_a[i] != n * p->stride_a[3] || p->stride_b[i] != n * p->stride_b[3])) {
            break;
        }
        p->dims[3] *= p->dims[i];
        p->dims[i] = 1;
    }
}

/* One run along the last axis. */
static void apply_run(const struct binary *p, const uint8_t *a, const uint8_t *b, void *out)
{
#if ZS_FLOAT32_KERNELS
    if (zs_is_float(p->out.dtype)) {
        for (uint32_t i = 0; i < p->dims[3]; i++) {
            ((float *)out)[i] = apply_f32(p, zs_load_f32(a), zs_load_f32(b));
            a += 4 * p->stride_a[3];
            b += 4 * p->stride_b[3];
        }
    }
#endif
#if ZS_INT8_KERNELS
    if (p->out.dtype == ZS_INT8) {
        run_s8(p, (const int8_t *)a, (const int8_t *)b, out);
    }
#endif
}

enum zs_status zs_op_binary(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct binary p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return !zs_has_kernels(p.out.dtype) ? ZS_ERR_UNSUP : check(r, &p);
    }
    join_axes(&p);
    const uint32_t size = p.out.dtype == ZS_FLOAT32 ? 4 : 1;
    const uint8_t *a = zs_tensor_input(ctx, &p.a);
    const uint8_t *b = zs_tensor_input(ctx, &p.b);
    uint8_t *out = zs_tensor_output(ctx, &p.out);
    for (uint32_t i = 0; i < p.dims[0]; i++) {
        for (uint32_t j = 0; j < p.dims[1]; j++) {
            for (uint32_t k = 0; k < p.dims[2]; k++) {
                const uint32_t at_a = i * p.stride_a[0] + j * p.stride_a[1] + k * p.stride_a[2];
                const uint32_t at_b = i * p.stride_b[0] + j * p.stride_b[1] + k * p.stride_b[2];
                apply_run(&p, a + size * at_a, b + size * at_b, out);
                out += size * p.dims[3];
            }
        }
    }
    return ZS_OK;
}

#endif
