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
#define ROWS 18  /* outputs made at a time */

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
    zs_weights_read(ctx, r, zs_is_float(p->in.dtype), &p->weights);
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

/* Outputs [first, first + n), which if all have one scale are made together. `stored` counts
 * biases. */
static void write_outputs(const struct fully_connected *p, uint32_t first, uint32_t n,
                          uint32_t *stored, uint32_t *sums, int8_t *out)
{
    const struct zs_output_stage *stage = &p->stage;
    const bool small = zs_output_stage_add_biases(stage, first, n, stored, sums)
                       && p->inputs <= ZS_SMALL_SUM / ZS_LARGEST_PRODUCT;
    if (stage->multiplier_bits == 0 && stage->shift_bits == 0) {
        const struct zs_scale scale = zs_output_stage_scale(stage, 0);
        const struct zs_requantize all =
            zs_requantize_of(scale, stage->zero_point, stage->low, stage->high, small);
        zs_requantize(&all, sums, (int32_t)n, out, 1);
        return;
    }
    for (uint32_t o = 0; o < n; o++) {
        out[o] = zs_output_stage_s8(stage, zs_output_stage_scale(stage, first + o), sums[o]);
    }
}

#if ZS_DSP
/* Two of a row's pairs of weights. */
#define ADD_PRODUCTS(sum, w)                 \
    "sxtb16 %[t], " w "\n\t"                 \
    "sxtb16 " w ", " w ", ror #8\n\t"        \
    "smlad " sum ", %[t], %[x], " sum "\n\t" \
    "smlad " sum ", " w ", %[odd], " sum "\n\t"

/* Four inputs and weights of three rows. Loads that follow each other take a cycle each; compilers
 * spread them. */
#define FOUR_OF_THREE                                                               \
    "ldr.w %[x], [%[in]], #4\n\t"                                                   \
    "ldr.w %[u], [%[row], %[step], lsl #1]\n\t"                                     \
    "sxtb16 %[odd], %[x], ror #8\n\t"                                               \
    "sxtb16 %[x], %[x]\n\t"                                                         \
    "ssub16 %[odd], %[odd], %[zeros]\n\t"                                           \
    "ssub16 %[x], %[x], %[zeros]\n\t" ADD_PRODUCTS(                                 \
        "%[c]", "%[u]") "ldr.w %[u], [%[row], %[step]]\n\t"                         \
                        "ldr.w %[v], [%[row]], #4\n\t" ADD_PRODUCTS("%[b]", "%[u]") \
                            ADD_PRODUCTS("%[a]", "%[v]")

#endif

/* Three dense rows of `n` weights, `step` apart, times the inputs, zero point not taken off. */
static ZS_NOINLINE void dot_of_three(const int8_t *row, uint32_t step, const int8_t *in, uint32_t n,
                                     int32_t zero, uint32_t *sums)
{
    uint32_t a = 0, b = 0, c = 0;
#if ZS_DSP
    const uint32_t zeros = ((uint32_t)zero & 0xffff) * 0x10001u;
    const int8_t *end = in + (n & ~7u);
    if (in != end) {
        uint32_t x, odd, t, u, v;
        __asm__ volatile(".balign 4\n1:\n\t" FOUR_OF_THREE FOUR_OF_THREE "cmp.w %[in], %[end]\n\t"
                         "bne.w 1b\n\t"
                         : [x] "=&r"(x), [odd] "=&r"(odd), [t] "=&r"(t), [u] "=&r"(u), [v] "=&r"(v),
                           [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [in] "+r"(in), [row] "+r"(row)
                         : [step] "r"(step), [zeros] "r"(zeros), [end] "r"(end)
                         : "cc", "memory");
    }
    n &= 7;
#endif
    for (; n > 0; n--, row++) {
        const int32_t x = *in++ - zero;
        a += (uint32_t)(row[0] * x);
        b += (uint32_t)(row[step] * x);
        c += (uint32_t)(row[2 * step] * x);
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
}

/* All columns times their inputs, added to `sums`. Like others with a decoder on their stack it is
 * not inlined, where several of those would be there at once. */
static ZS_NOINLINE void add_columns_s8(struct zs_ctx *ctx, const struct fully_connected *p,
                                       const int8_t *in, uint32_t *sums)
{
    const int32_t zero = p->in.zero_point;
    if (zs_add_columns_s8(ctx, &p->weights, in, zero, sums)) {
        return;
    }
    struct zs_decoder d;
    zs_decoder_start(&d, &p->weights);
    for (uint32_t i = 0; i < p->inputs; i++) {
        zs_decoder_row(&d);
        if (in[i] != zero) {
            column_s8(ctx, &d, in[i] - zero, sums);
        }
    }
}

/* Rows [first, first + n) of weights that are stored as they are; there is room for two more sums.
 */
static void dot_rows(const struct fully_connected *p, const int8_t *in, uint32_t first, uint32_t n,
                     uint32_t *sums)
{
    const int8_t *row = (const int8_t *)p->weights.values + first * p->inputs;
    uint32_t rows;
    for (uint32_t o = 0; o < n; o += rows, row += rows * p->inputs) {
        rows = n - o < 3 ? 1 : 3;
        dot_of_three(row, rows == 3 ? p->inputs : 0, in, p->inputs, p->in.zero_point, sums + o);
    }
}

/* The next `n` rows, decoded. */
static void decode_rows(struct zs_ctx *ctx, const struct fully_connected *p, struct zs_decoder *d,
                        const int8_t *in, uint32_t n, uint32_t *sums)
{
    for (uint32_t o = 0; o < n; o++) {
        zs_decoder_row(d);
        sums[o] = dot_s8(ctx, d, in, p->in.zero_point);
    }
}

static ZS_NOINLINE void run_rows_s8(struct zs_ctx *ctx, const struct fully_connected *p,
                                    const int8_t *in, int8_t *out)
{
    const struct zs_weights *w = &p->weights;
    const bool plain = zs_positions_are(w, ZS_POSITION_DENSE) && w->zero_point == 0
                       && zs_values_are(w, ZS_VALUE_RAW);
    struct zs_decoder d;
    zs_decoder_start(&d, w);
    uint32_t stored = 0;
    for (uint32_t first = 0; first < p->outputs; first += ROWS) {
        uint32_t sums[ROWS];
        const uint32_t left = p->outputs - first;
        const uint32_t n = left < ROWS ? left : ROWS;
        if (plain) {
            dot_rows(p, in, first, n, sums);
            ctx->macs += p->inputs * n;
        } else {
            decode_rows(ctx, p, &d, in, n, sums);
        }
        write_outputs(p, first, n, &stored, sums, out + first);
    }
}

static void run_s8(struct zs_ctx *ctx, const struct fully_connected *p, uint32_t *acc)
{
    const int8_t *in = zs_tensor_input(ctx, &p->in);
    int8_t *out = zs_tensor_output(ctx, &p->out);
    for (uint32_t b = 0; b < p->batch; b++, in += p->inputs, out += p->outputs) {
        if (p->weights.by_columns) {
            uint32_t stored = 0;
            memset(acc, 0, sizeof *acc * p->outputs);
            add_columns_s8(ctx, p, in, acc);
            write_outputs(p, 0, p->outputs, &stored, acc, out);
        } else {
            run_rows_s8(ctx, p, in, out);
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

static ZS_NOINLINE void run_f32(struct zs_ctx *ctx, const struct fully_connected *p, float *acc)
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
        return !zs_has_kernels(p.in.dtype) || p.weights.refused ? ZS_ERR_UNSUP : check(ctx, r, &p);
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
