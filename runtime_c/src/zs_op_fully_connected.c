/*
 * zs_op_fully_connected.c - matrix-vector products straight from the weight
 * stream: by rows, or by columns, where the column of a zero activation is
 * skipped unread (EIE, Han et al. 2016, section 3).
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_math.h"
#include "zs_requantize.h"
#include "zs_weights.h"

#if ZS_OP_FULLY_CONNECTED

#define CHUNK 16 /* elements decoded at a time, on the stack */

struct fully_connected {
    struct zs_tensor in, out;
    struct zs_weights weights;
    struct zs_output_stage stage;
    uint32_t inputs, outputs;
    uint32_t batch; /* rows of the input */
    uint32_t scratch;
};

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct fully_connected *p)
{
    zs_tensor_read(ctx, r, &p->in);
    zs_tensor_read(ctx, r, &p->out);
    zs_weights_read(ctx, r, p->in.dtype == ZS_FLOAT32, &p->weights);
    p->inputs = p->weights.by_columns ? p->weights.rows : p->weights.cols;
    p->outputs = p->weights.by_columns ? p->weights.cols : p->weights.rows;
    zs_output_stage_read(ctx, r, &p->out, p->outputs, &p->stage);
    p->scratch = zs_reader_var(r);
    p->batch = p->inputs == 0 ? 0 : p->in.count / p->inputs;
}

static enum zs_status check(struct zs_ctx *ctx, const struct zs_reader *r,
                            const struct fully_connected *p)
{
    if (!zs_reader_ok(r) || !zs_check_unary(&p->in, &p->out, false)
        || (uint64_t)p->batch * p->inputs != p->in.count
        || (uint64_t)p->batch * p->outputs != p->out.count
        || !zs_spend(ctx, (uint64_t)p->weights.rows * p->weights.cols * p->batch)
        || !zs_check_scratch(ctx, p->scratch, p->weights.by_columns ? 4ull * p->outputs : 0, &p->in,
                             &p->out)) {
        return ZS_ERR_FORMAT;
    }
    const enum zs_status status = zs_output_stage_check(&p->stage, p->outputs);
    return status != ZS_OK ? status : zs_weights_check(&p->weights);
}

#if ZS_INT8_KERNELS

static uint32_t dot_s8(struct zs_ctx *ctx, struct zs_decoder *d, const int8_t *in, int32_t zero)
{
    uint16_t cols[CHUNK];
    int16_t weights[CHUNK];
    uint32_t acc = 0;
    do {
        const unsigned n = zs_decoder_take(d, cols, weights, CHUNK);
        for (unsigned i = 0; i < n; i++) {
            const int32_t x = in[cols[i]] - zero;
            if (x != 0) {
                acc += (uint32_t)(weights[i] * x);
                ctx->macs++;
            }
        }
    } while (!d->row_done);
    return acc;
}

static void column_s8(struct zs_ctx *ctx, struct zs_decoder *d, int32_t x, uint32_t *acc)
{
    uint16_t cols[CHUNK];
    int16_t weights[CHUNK];
    do {
        const unsigned n = zs_decoder_take(d, cols, weights, CHUNK);
        for (unsigned i = 0; i < n; i++) {
            acc[cols[i]] += (uint32_t)(weights[i] * x);
        }
        ctx->macs += n;
    } while (!d->row_done);
}

/* Outputs with one scale for all are made together. */
static void write_outputs(const struct fully_connected *p, uint32_t *sums, int8_t *out)
{
    const struct zs_output_stage *stage = &p->stage;
    const bool has_bias = stage->bias_bits != 0 || stage->bias_base != 0;
    bool small = p->inputs <= ZS_SMALL_SUM / ZS_LARGEST_PRODUCT;
    uint32_t stored = 0;
    for (uint32_t o = 0; o < p->outputs && has_bias; o++) {
        const uint32_t bias = zs_output_stage_bias(stage, o, &stored);
        small = small && zs_is_small(bias);
        sums[o] += bias;
    }
    if (stage->multiplier_bits == 0 && stage->shift_bits == 0) {
        const struct zs_scale scale = zs_output_stage_scale(stage, 0);
        const struct zs_requantize all =
            zs_requantize_of(scale, stage->zero_point, stage->low, stage->high, small);
        zs_requantize(&all, sums, (int32_t)p->outputs, out, 1);
        return;
    }
    for (uint32_t o = 0; o < p->outputs; o++) {
        out[o] = zs_output_stage_s8(stage, zs_output_stage_scale(stage, o), sums[o]);
    }
}

static void run_s8(struct zs_ctx *ctx, const struct fully_connected *p, uint32_t *acc)
{
    const int8_t *in = zs_tensor_input(ctx, &p->in);
    int8_t *out = zs_tensor_output(ctx, &p->out);
    const int32_t zero = p->in.zero_point;
    for (uint32_t b = 0; b < p->batch; b++, in += p->inputs, out += p->outputs) {
        struct zs_decoder d;
        zs_decoder_start(&d, &p->weights);
        if (p->weights.by_columns) {
            memset(acc, 0, sizeof *acc * p->outputs);
            const bool done = zs_add_columns_s8(ctx, &p->weights, in, zero, acc);
            for (uint32_t i = 0; i < p->inputs && !done; i++) {
                zs_decoder_row(&d);
                if (in[i] != zero) {
                    column_s8(ctx, &d, in[i] - zero, acc);
                }
            }
        }
        if (p->weights.by_columns) {
            write_outputs(p, acc, out);
            continue;
        }
        uint32_t stored = 0;
        for (uint32_t o = 0; o < p->outputs; o++) {
            uint32_t sum = zs_output_stage_bias(&p->stage, o, &stored);
            {
                zs_decoder_row(&d);
                sum += dot_s8(ctx, &d, in, zero);
            }
            out[o] = zs_output_stage_s8(&p->stage, zs_output_stage_scale(&p->stage, o), sum);
        }
    }
}

#endif

#if ZS_FLOAT32_KERNELS

static bool is_zero(float x)
{
    return !(x < 0.0f || x > 0.0f) && x == x;
}

static float dot_f32(struct zs_ctx *ctx, struct zs_decoder *d, const float *in)
{
    uint16_t cols[CHUNK];
    float weights[CHUNK];
    float acc = 0.0f;
    do {
        const unsigned n = zs_decoder_take(d, cols, weights, CHUNK);
        for (unsigned i = 0; i < n; i++) {
            const float x = in[cols[i]];
            if (!is_zero(x)) {
                acc += weights[i] * x;
                ctx->macs++;
            }
        }
    } while (!d->row_done);
    return acc;
}

static void column_f32(struct zs_ctx *ctx, struct zs_decoder *d, float x, float *acc)
{
    uint16_t cols[CHUNK];
    float weights[CHUNK];
    do {
        const unsigned n = zs_decoder_take(d, cols, weights, CHUNK);
        for (unsigned i = 0; i < n; i++) {
            acc[cols[i]] += weights[i] * x;
        }
        ctx->macs += n;
    } while (!d->row_done);
}

static void run_f32(struct zs_ctx *ctx, const struct fully_connected *p, float *acc)
{
    const float *in = zs_tensor_input(ctx, &p->in);
    float *out = zs_tensor_output(ctx, &p->out);
    for (uint32_t b = 0; b < p->batch; b++, in += p->inputs, out += p->outputs) {
        struct zs_decoder d;
        zs_decoder_start(&d, &p->weights);
        if (p->weights.by_columns) {
            memset(acc, 0, sizeof *acc * p->outputs);
            for (uint32_t i = 0; i < p->inputs; i++) {
                zs_decoder_row(&d);
                if (!is_zero(in[i])) {
                    column_f32(ctx, &d, in[i], acc);
                }
            }
        }
        uint32_t stored = 0;
        for (uint32_t o = 0; o < p->outputs; o++) {
            float sum;
            if (p->weights.by_columns) {
                sum = acc[o];
            } else {
                zs_decoder_row(&d);
                sum = dot_f32(ctx, &d, in);
            }
            out[o] = zs_clamp_f32(sum + zs_output_stage_bias_f32(&p->stage, o, &stored),
                                  p->stage.low_f32, p->stage.high_f32);
        }
    }
}

#endif

enum zs_status zs_op_fully_connected(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct fully_connected p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return !zs_has_kernels(p.in.dtype) ? ZS_ERR_UNSUP : check(ctx, r, &p);
    }
    void *acc = ctx->arena + p.scratch;
#if ZS_FLOAT32_KERNELS
    if (p.in.dtype == ZS_FLOAT32) {
        run_f32(ctx, &p, acc);
    }
#endif
#if ZS_INT8_KERNELS
    if (p.in.dtype == ZS_INT8) {
        run_s8(ctx, &p, acc);
    }
#endif
    return ZS_OK;
}

#endif
