/* zs_op_conv.c - standard, grouped, depthwise and 1-D convolution. SPDX-License-Identifier:
 * Apache-2.0 */
#include "zs_conv.h"

#if ZS_OP_CONV

static uint64_t round_up_4(uint64_t size)
{
    return (size + 3) & ~(uint64_t)3;
}

uint64_t zs_conv_scratch_size(const struct zs_conv *p)
{
    const uint64_t taps = p->weights.max_row;
    const bool f32 = zs_weights_are_float(&p->weights);
    const uint64_t rows = (uint64_t)(uint32_t)p->channels * (uint32_t)p->in_h;
    return round_up_4(2 * taps) + round_up_4((f32 ? 4 : 2) * taps) + (f32 ? 12 : 8) * taps
           + round_up_4((rows + 7) / 8);
}

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_conv *p)
{
    zs_tensor_read(ctx, r, &p->in);
    zs_tensor_read(ctx, r, &p->out);
    p->kernel_h = zs_reader_var(r);
    p->kernel_w = zs_reader_var(r);
    p->stride_y = zs_reader_var(r);
    p->stride_x = zs_reader_var(r);
    p->dilation_y = zs_reader_var(r);
    p->dilation_x = zs_reader_var(r);
    p->pad_top = zs_reader_var(r);
    p->pad_left = zs_reader_var(r);
    p->groups = zs_reader_var(r);
    zs_weights_read(ctx, r, zs_is_float(p->in.dtype), &p->weights);
    zs_output_stage_read(ctx, r, &p->out, p->weights.rows, &p->stage);
    p->scratch = zs_reader_var(r);

    p->channels = (int32_t)p->in.dims[0];
    p->in_h = (int32_t)p->in.dims[1];
    p->in_w = (int32_t)p->in.dims[2];
    p->out_channels = (int32_t)p->out.dims[0];
    p->out_h = (int32_t)p->out.dims[1];
    p->out_w = (int32_t)p->out.dims[2];
    p->pointwise = p->kernel_h == 1 && p->kernel_w == 1 && p->stride_y == 1 && p->stride_x == 1
                   && p->pad_top == 0 && p->pad_left == 0;
    if (p->pointwise) {
        p->in_w *= p->in_h;
        p->in_h = 1;
        p->out_w *= p->out_h;
        p->out_h = 1;
    }
}

/* Whether windows along one axis stay near the input, so that no index overflows. */
static bool axis_is_valid(uint32_t out, uint32_t kernel, uint32_t stride, uint32_t dilation,
                          uint32_t pad)
{
    return kernel >= 1 && stride >= 1 && dilation >= 1 && kernel <= ZS_MAX_DIM
           && dilation <= ZS_MAX_DIM && stride <= ZS_MAX_DIM && pad <= ZS_MAX_DIM
           && (uint64_t)(kernel - 1) * dilation <= INT16_MAX
           && (uint64_t)(out - 1) * stride + (uint64_t)(kernel - 1) * dilation < ZS_MAX_WORK;
}

static enum zs_status check(struct zs_ctx *ctx, const struct zs_reader *r, const struct zs_conv *p)
{
    const struct zs_weights *w = &p->weights;
    if (!zs_reader_ok(r) || !zs_check_unary(&p->in, &p->out, false) || p->in.rank != 3
        || p->out.rank != 3 || p->groups < 1
        || !axis_is_valid(p->out.dims[1], p->kernel_h, p->stride_y, p->dilation_y, p->pad_top)
        || !axis_is_valid(p->out.dims[2], p->kernel_w, p->stride_x, p->dilation_x, p->pad_left)
        || p->in.dims[0] % p->groups != 0 || p->out.dims[0] % p->groups != 0
        || w->rows != p->out.dims[0] || w->by_columns
        || (uint64_t)w->cols != (uint64_t)(p->in.dims[0] / p->groups) * p->kernel_h * p->kernel_w
        || (p->pointwise && (p->in.dims[1] != p->out.dims[1] || p->in.dims[2] != p->out.dims[2]))) {
        return ZS_ERR_FORMAT;
    }
    const uint64_t pixels = (uint64_t)(uint32_t)p->out_h * (uint32_t)p->out_w;
    if (!zs_spend(ctx, w->count * pixels) || !zs_spend(ctx, (uint64_t)w->rows * w->cols)
        || !zs_check_scratch(ctx, p->scratch, zs_conv_scratch_size(p), &p->in, &p->out)) {
        return ZS_ERR_FORMAT;
    }
    const enum zs_status status = zs_output_stage_check(&p->stage, w->rows);
    return status != ZS_OK ? status : zs_weights_check(w);
}

enum zs_status zs_op_conv(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct zs_conv p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return !zs_has_kernels(p.in.dtype) || p.weights.refused ? ZS_ERR_UNSUP : check(ctx, r, &p);
    }
#if ZS_FLOAT32_KERNELS
    if (p.in.dtype == ZS_FLOAT32) {
        zs_conv_f32(ctx, &p);
    }
#endif
#if ZS_INT8_KERNELS
    if (p.in.dtype == ZS_INT8) {
        zs_conv_s8(ctx, &p);
    }
#endif
    return ZS_OK;
}

#endif
