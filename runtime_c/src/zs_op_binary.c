/* zs_op_binary.c - add, sub, mul with broadcasting. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"
#include "zs_math.h"

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
    if (p->out.dtype == ZS_FLOAT32) {
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
static int8_t apply_s8(const struct binary *p, int8_t a, int8_t b)
{
    const int32_t x = a - p->a.zero_point;
    const int32_t y = b - p->b.zero_point;
    int32_t raw;
    if (p->kind == KIND_MUL) {
        raw = x * y;
    } else {
        const int32_t u = zs_scale(zs_shift_left(x, p->left_shift), p->multiplier[0], p->shift[0]);
        const int32_t v = zs_scale(zs_shift_left(y, p->left_shift), p->multiplier[1], p->shift[1]);
        raw =
            (int32_t)(p->kind == KIND_ADD ? (uint32_t)u + (uint32_t)v : (uint32_t)u - (uint32_t)v);
    }
    const int32_t scaled = zs_scale(raw, p->multiplier[2], p->shift[2]);
    return zs_clamp_s8(zs_wrap_add(scaled, p->out.zero_point), p->low, p->high);
}
#endif

#if ZS_FLOAT32_KERNELS
static float apply_f32(const struct binary *p, float a, float b)
{
    const float raw = p->kind == KIND_ADD ? a + b : p->kind == KIND_SUB ? a - b : a * b;
    return zs_clamp_f32(raw, p->low_f32, p->high_f32);
}
#endif

/* One run along the last axis. */
static void apply_run(const struct binary *p, const uint8_t *a, const uint8_t *b, void *out)
{
    const uint32_t n = p->dims[3];
#if ZS_FLOAT32_KERNELS
    if (p->out.dtype == ZS_FLOAT32) {
        for (uint32_t i = 0; i < n; i++) {
            ((float *)out)[i] = apply_f32(p, zs_load_f32(a), zs_load_f32(b));
            a += 4 * p->stride_a[3];
            b += 4 * p->stride_b[3];
        }
    }
#endif
#if ZS_INT8_KERNELS
    if (p->out.dtype == ZS_INT8) {
        for (uint32_t i = 0; i < n; i++) {
            ((int8_t *)out)[i] = apply_s8(p, (int8_t)*a, (int8_t)*b);
            a += p->stride_a[3];
            b += p->stride_b[3];
        }
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
