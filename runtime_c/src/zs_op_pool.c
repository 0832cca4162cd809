/* zs_op_pool.c - average and max pooling. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"
#include "zs_math.h"

#if ZS_OP_POOL

enum {
    FLAG_MAX = 1,
    FLAG_COUNT_PADDING = 2,
    FLAG_ADAPTIVE = 4
};

struct pool {
    struct zs_tensor in, out;
    uint8_t flags;
    int32_t kernel[2], stride[2], pad[2]; /* y, x */
    int32_t offset;                       /* int8 average: where rounding is away from */
    int32_t low, high;
    float low_f32, high_f32;
};

/* Elements [begin, end) of one axis under a window, and how many it divides by. */
struct window {
    int32_t begin, end, count;
};

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct pool *p)
{
    zs_tensor_read(ctx, r, &p->in);
    zs_tensor_read(ctx, r, &p->out);
    p->flags = zs_reader_u8(r);
    uint32_t values[6];
    for (unsigned i = 0; i < 6; i++) {
        values[i] = zs_reader_var(r);
        if (values[i] > ZS_MAX_DIM / 2) {
            zs_reader_fail(r);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        p->kernel[i] = (int32_t)values[i];
        p->stride[i] = (int32_t)values[2 + i];
        p->pad[i] = (int32_t)values[4 + i];
    }
    p->offset = p->low = p->high = 0;
    if (zs_is_float(p->out.dtype)) {
        zs_read_range_f32(r, &p->low_f32, &p->high_f32);
    } else {
        p->offset = zs_reader_svar(r);
        zs_read_range_s8(r, &p->low, &p->high);
        if (p->offset < -128 || p->offset > 128) {
            zs_reader_fail(r);
        }
    }
}

static struct window window_at(const struct pool *p, unsigned axis, int32_t i)
{
    const int32_t in = (int32_t)p->in.dims[1 + axis];
    const int32_t out = (int32_t)p->out.dims[1 + axis];
    struct window w;
    if ((p->flags & FLAG_ADAPTIVE) != 0) {
        w.begin = (int32_t)((uint32_t)i * (uint32_t)in / (uint32_t)out);
        w.end = (int32_t)(((uint32_t)(i + 1) * (uint32_t)in + (uint32_t)out - 1) / (uint32_t)out);
        w.count = w.end - w.begin;
        return w;
    }
    w.begin = i * p->stride[axis] - p->pad[axis];
    w.end = w.begin + p->kernel[axis];
    const int32_t padded = w.end < in + p->pad[axis] ? w.end : in + p->pad[axis];
    w.count = padded - w.begin;
    w.begin = w.begin > 0 ? w.begin : 0;
    w.end = w.end < in ? w.end : in;
    if ((p->flags & FLAG_COUNT_PADDING) == 0) {
        w.count = w.end - w.begin;
    }
    return w;
}

static enum zs_status check(struct zs_ctx *ctx, const struct zs_reader *r, const struct pool *p)
{
    if (!zs_reader_ok(r) || !zs_check_unary(&p->in, &p->out, false) || p->in.rank != 3
        || p->out.rank != 3 || p->in.dims[0] != p->out.dims[0] || p->flags > 7) {
        return ZS_ERR_FORMAT;
    }
    uint64_t area = 1; /* elements visited per output */
    for (unsigned axis = 0; axis < 2; axis++) {
        const uint32_t in = p->in.dims[1 + axis];
        const uint32_t out = p->out.dims[1 + axis];
        if ((p->flags & FLAG_ADAPTIVE) != 0) {
            area *= in / out + 2;
        } else {
            if (p->kernel[axis] < 1 || p->stride[axis] < 1
                || (uint64_t)(out - 1) * (uint32_t)p->stride[axis] >= ZS_MAX_WORK) {
                return ZS_ERR_FORMAT;
            }
            area *= (uint32_t)p->kernel[axis];
        }
    }
    return area > ZS_MAX_WINDOW || !zs_spend(ctx, area * p->out.count) ? ZS_ERR_FORMAT : ZS_OK;
}

#if ZS_INT8_KERNELS
static int8_t pool_s8(const struct pool *p, const int8_t *in, struct window y, struct window x)
{
    const int32_t width = (int32_t)p->in.dims[2];
    const bool is_max = (p->flags & FLAG_MAX) != 0;
    int32_t best = -128;
    int32_t sum = 0;
    for (int32_t iy = y.begin; iy < y.end; iy++) {
        for (int32_t ix = x.begin; ix < x.end; ix++) {
            const int32_t value = in[iy * width + ix];
            best = value > best ? value : best;
            sum += value;
        }
    }
    const int32_t inside =
        y.end > y.begin && x.end > x.begin ? (y.end - y.begin) * (x.end - x.begin) : 0;
    const int32_t count = y.count > 0 && x.count > 0 ? y.count * x.count : 0;
    if (inside == 0 || count == 0) {
        return zs_clamp_s8(p->out.zero_point, p->low, p->high);
    }
    sum += (count - inside) * p->in.zero_point + count * p->offset;
    return zs_clamp_s8(is_max ? best : zs_round_divide(sum, count) - p->offset, p->low, p->high);
}
#endif

#if ZS_FLOAT32_KERNELS
static float pool_f32(const struct pool *p, const float *in, struct window y, struct window x)
{
    const int32_t width = (int32_t)p->in.dims[2];
    float best = -3.402823466e+38f;
    float sum = 0.0f;
    for (int32_t iy = y.begin; iy < y.end; iy++) {
        for (int32_t ix = x.begin; ix < x.end; ix++) {
            const float value = in[iy * width + ix];
            best = value > best ? value : best;
            sum += value;
        }
    }
    if (y.end <= y.begin || x.end <= x.begin || y.count < 1 || x.count < 1) {
        return zs_clamp_f32(0.0f, p->low_f32, p->high_f32);
    }
    const float result = (p->flags & FLAG_MAX) != 0 ? best : sum / (float)(y.count * x.count);
    return zs_clamp_f32(result, p->low_f32, p->high_f32);
}
#endif

enum zs_status zs_op_pool(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct pool p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return !zs_has_kernels(p.in.dtype) ? ZS_ERR_UNSUP : check(ctx, r, &p);
    }
    const void *in = zs_tensor_input(ctx, &p.in);
    void *out = zs_tensor_output(ctx, &p.out);
    const uint32_t plane = p.in.dims[1] * p.in.dims[2];
    uint32_t i = 0;
    for (uint32_t c = 0; c < p.out.dims[0]; c++) {
        for (uint32_t oy = 0; oy < p.out.dims[1]; oy++) {
            const struct window y = window_at(&p, 0, (int32_t)oy);
            for (uint32_t ox = 0; ox < p.out.dims[2]; ox++, i++) {
                const struct window x = window_at(&p, 1, (int32_t)ox);
#if ZS_FLOAT32_KERNELS
                if (p.in.dtype == ZS_FLOAT32) {
                    ((float *)out)[i] = pool_f32(&p, (const float *)in + plane * c, y, x);
                }
#endif
#if ZS_INT8_KERNELS
                if (p.in.dtype == ZS_INT8) {
                    ((int8_t *)out)[i] = pool_s8(&p, (const int8_t *)in + plane * c, y, x);
                }
#endif
            }
        }
    }
    return ZS_OK;
}

#endif
