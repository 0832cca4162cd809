/* zs_op_mean.c - mean over some axes. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"
#include "zs_math.h"

#if ZS_OP_MEAN

struct mean {
    struct zs_tensor in, out;
    uint8_t mask;
    int32_t multiplier, shift;
    uint32_t count; /* elements averaged into one */
    /* Sizes and strides of the kept axes and of the reduced ones; 1 and 0 for the others. */
    uint32_t kept[ZS_MAX_RANK], kept_stride[ZS_MAX_RANK];
    uint32_t reduced[ZS_MAX_RANK], reduced_stride[ZS_MAX_RANK];
};

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct mean *p)
{
    zs_tensor_read(ctx, r, &p->in);
    zs_tensor_read(ctx, r, &p->out);
    p->mask = zs_reader_u8(r);
    p->multiplier = p->shift = 0;
    if (!zs_is_float(p->in.dtype)) {
        zs_read_scale(r, &p->multiplier, &p->shift);
    }
    uint32_t stride = 1;
    p->count = 1;
    for (unsigned i = ZS_MAX_RANK; i-- > 0;) {
        const bool reduced = (p->mask >> i & 1) != 0;
        const uint32_t dim = p->in.dims[i];
        p->kept[i] = reduced ? 1 : dim;
        p->kept_stride[i] = reduced ? 0 : stride;
        p->reduced[i] = reduced ? dim : 1;
        p->reduced_stride[i] = reduced ? stride : 0;
        p->count *= p->reduced[i];
        stride *= dim;
    }
}

static enum zs_status check(const struct zs_reader *r, const struct mean *p)
{
    if (!zs_reader_ok(r) || !zs_check_unary(&p->in, &p->out, false) || p->mask >> p->in.rank != 0
        || p->count > ZS_MAX_WINDOW || (uint64_t)p->count * p->out.count != p->in.count) {
        return ZS_ERR_FORMAT;
    }
    return ZS_OK;
}

#if ZS_INT8_KERNELS
static int8_t round_s8(const struct mean *p, int32_t sum)
{
    const int32_t acc = sum - (int32_t)p->count * p->in.zero_point;
    const int32_t value = zs_scale(acc, p->multiplier, p->shift);
    return zs_clamp_s8(zs_wrap_add(value, p->out.zero_point), -128, 127);
}
#endif

/* Average the elements that belong to one output. */
static void reduce(const struct mean *p, const void *in, uint32_t at, void *out, uint32_t o)
{
    int32_t sum = 0;
    float sum_f32 = 0.0f;
    const bool f32 = p->in.dtype == ZS_FLOAT32;
    for (uint32_t i = 0; i < p->reduced[0]; i++) {
        for (uint32_t j = 0; j < p->reduced[1]; j++) {
            for (uint32_t k = 0; k < p->reduced[2]; k++) {
                uint32_t from = at + i * p->reduced_stride[0] + j * p->reduced_stride[1]
                                + k * p->reduced_stride[2];
                for (uint32_t l = 0; l < p->reduced[3]; l++, from += p->reduced_stride[3]) {
                    if (ZS_FLOAT32_KERNELS && f32) {
                        sum_f32 += ((const float *)in)[from];
                    } else {
                        sum += ((const int8_t *)in)[from];
                    }
                }
            }
        }
    }
#if ZS_FLOAT32_KERNELS
    if (f32) {
        ((float *)out)[o] = sum_f32 / (float)p->count;
    }
#else
    (void)sum_f32;
#endif
#if ZS_INT8_KERNELS
    if (!f32) {
        ((int8_t *)out)[o] = round_s8(p, sum);
    }
#else
    (void)sum;
#endif
}

enum zs_status zs_op_mean(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct mean p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return !zs_has_kernels(p.in.dtype) ? ZS_ERR_UNSUP : check(r, &p);
    }
    const void *in = zs_tensor_input(ctx, &p.in);
    void *out = zs_tensor_output(ctx, &p.out);
    uint32_t o = 0;
    for (uint32_t i = 0; i < p.kept[0]; i++) {
        for (uint32_t j = 0; j < p.kept[1]; j++) {
            for (uint32_t k = 0; k < p.kept[2]; k++) {
                for (uint32_t l = 0; l < p.kept[3]; l++) {
                    const uint32_t at = i * p.kept_stride[0] + j * p.kept_stride[1]
                                        + k * p.kept_stride[2] + l * p.kept_stride[3];
                    reduce(&p, in, at, out, o++);
                }
            }
        }
    }
    return ZS_OK;
}

#endif
