/*
 * zs_conv_kernel.h - the sparse convolution loops, for one element type.
 *
 * Included by zs_conv_s8.c and zs_conv_f32.c, which define first:
 *     element_t, weight_t, sum_t          types of activations, weights, sums
 *     multiply_add(sum, weight, x)        one multiply-accumulate
 *     ZS_CONV_FUNCTION                    name of the kernel
 *     finish(stage, channel, sum)         sum to element_t, bias included
 *     row_start(p, weight_sum)            start of the sum of a pixel whose taps are all
 *                                         inside the input, given the sum of their weights
 *
 * The filter of one output channel is decoded once into scratch. For each row
 * of the output, the taps that read an input row outside the input, or one
 * that is zero throughout, are dropped: what is left is a list of (offset,
 * weight) that is swept over the row in tiles of pixels kept in registers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_conv.h"

#define TILE 4

/* A tap as seen from one output row. */
struct tap {
    int32_t offset; /* in the input, from that of output column 0 */
    weight_t weight;
    uint16_t kx;
};

struct scratch {
    uint16_t *cols;    /* the filter: columns of the weight matrix ... */
    weight_t *weights; /* ... and their weights */
    struct tap *taps;
    uint8_t *live; /* a bit per input row (c, y): not zero throughout */
};

/* Output columns [begin, end) whose windows lie inside the input row. */
struct inner {
    int32_t begin, end;
};

static void *carve(uint8_t **next, uint32_t size)
{
    void *part = *next;
    *next += (size + 3) & ~3u;
    return part;
}

static void mark_live(const struct zs_conv *p, const element_t *in, uint8_t *live)
{
    const int32_t rows = p->channels * p->in_h;
    const element_t zero = (element_t)p->in.zero_point;
    memset(live, 0, (size_t)(rows + 7) / 8);
    for (int32_t row = 0; row < rows; row++) {
        for (int32_t x = 0; x < p->in_w; x++) {
            if (in[x] < zero || in[x] > zero) {
                live[row >> 3] |= (uint8_t)(1 << (row & 7));
                break;
            }
        }
        in += p->in_w;
    }
}

static struct inner find_inner(const struct zs_conv *p)
{
    const int32_t stride = (int32_t)p->stride_x;
    const int32_t pad = (int32_t)p->pad_left;
    const int32_t reach = (int32_t)((p->kernel_w - 1) * p->dilation_x);
    struct inner inner = { .begin = (pad + stride - 1) / stride, .end = 0 };
    const int32_t last = p->in_w - 1 + pad - reach; /* the last window's start, if inside */
    if (last >= 0) {
        inner.end = last / stride + 1;
    }
    if (inner.end > p->out_w) {
        inner.end = p->out_w;
    }
    if (inner.begin > inner.end) {
        inner.begin = inner.end = 0;
    }
    return inner;
}

/*
 * List the taps of `n` filter elements for output row oy of a filter that
 * reads the channels from `first` on. Returns how many; *weight_sum is the sum
 * of their weights.
 */
static int32_t list_taps(const struct zs_conv *p, const struct scratch *s, int32_t n, int32_t first,
                         int32_t oy, sum_t *weight_sum)
{
    const int32_t plane = p->in_h * p->in_w;
    const int32_t top = oy * (int32_t)p->stride_y - (int32_t)p->pad_top;
    const uint32_t kernel_w = p->kernel_w;
    uint32_t row_begin = 0; /* first column of the weight matrix in kernel row (c, ky) */
    int32_t c = first;
    int32_t y = top;
    uint32_t ky = 0;
    int32_t count = 0;
    int32_t i = 0;
    *weight_sum = 0;
    while (i < n) {
        while (s->cols[i] >= row_begin + kernel_w) {
            row_begin += kernel_w;
            y += (int32_t)p->dilation_y;
            if (++ky == p->kernel_h) {
                ky = 0;
                y = top;
                c++;
            }
        }
        const int32_t row = c * p->in_h + y;
        const bool use = y >= 0 && y < p->in_h && (s->live[row >> 3] >> (row & 7) & 1) != 0;
        const int32_t offset = c * plane + y * p->in_w - (int32_t)p->pad_left;
        for (; i < n && s->cols[i] < row_begin + kernel_w; i++) {
            if (use) {
                const uint32_t kx = s->cols[i] - row_begin;
                s->taps[count++] = (struct tap){
                    .offset = offset + (int32_t)(kx * p->dilation_x),
                    .weight = s->weights[i],
                    .kx = (uint16_t)kx,
                };
                *weight_sum = multiply_add(*weight_sum, s->weights[i], 1);
            }
        }
    }
    return count;
}

/* One pixel near the left or right edge: taps outside the input row are left out. */
static sum_t edge_pixel(struct zs_ctx *ctx, const struct zs_conv *p, const element_t *in,
                        const struct tap *tap, const struct tap *end, int32_t ox)
{
    const int32_t begin = ox * (int32_t)p->stride_x - (int32_t)p->pad_left;
    const element_t zero = (element_t)p->in.zero_point;
    sum_t sum = 0;
    const int32_t pixel = ox * (int32_t)p->stride_x;
    for (; tap < end; tap++) {
        const int32_t x = begin + (int32_t)(tap->kx * p->dilation_x);
        if (x >= 0 && x < p->in_w) {
            sum = multiply_add(sum, tap->weight, in[pixel + tap->offset] - zero);
            ctx->macs++;
        }
    }
    return sum;
}

static void output_row(struct zs_ctx *ctx, const struct zs_conv *p, const element_t *in,
                       element_t *out, const struct tap *taps, const struct tap *end,
                       struct inner inner, int32_t oc, sum_t start)
{
    const int32_t stride = (int32_t)p->stride_x;
    int32_t ox = 0;
    for (; ox < inner.begin; ox++) {
        out[ox] = finish(&p->stage, (uint32_t)oc, edge_pixel(ctx, p, in, taps, end, ox));
    }
    for (; ox + TILE <= inner.end; ox += TILE) {
        sum_t a0 = start, a1 = start, a2 = start, a3 = start;
        const element_t *pixel = in + ox * stride;
        for (const struct tap *tap = taps; tap < end; tap++) {
            const element_t *x = pixel + tap->offset;
            a0 = multiply_add(a0, tap->weight, x[0]);
            a1 = multiply_add(a1, tap->weight, x[stride]);
            a2 = multiply_add(a2, tap->weight, x[2 * stride]);
            a3 = multiply_add(a3, tap->weight, x[3 * stride]);
        }
        out[ox] = finish(&p->stage, (uint32_t)oc, a0);
        out[ox + 1] = finish(&p->stage, (uint32_t)oc, a1);
        out[ox + 2] = finish(&p->stage, (uint32_t)oc, a2);
        out[ox + 3] = finish(&p->stage, (uint32_t)oc, a3);
    }
    for (; ox < inner.end; ox++) {
        sum_t sum = start;
        const element_t *pixel = in + ox * stride;
        for (const struct tap *tap = taps; tap < end; tap++) {
            sum = multiply_add(sum, tap->weight, pixel[tap->offset]);
        }
        out[ox] = finish(&p->stage, (uint32_t)oc, sum);
    }
    for (; ox < p->out_w; ox++) {
        out[ox] = finish(&p->stage, (uint32_t)oc, edge_pixel(ctx, p, in, taps, end, ox));
    }
    ctx->macs += (uint32_t)(end - taps) * (uint32_t)(inner.end - inner.begin);
}

void ZS_CONV_FUNCTION(struct zs_ctx *ctx, const struct zs_conv *p)
{
    const element_t *in = zs_tensor_input(ctx, &p->in);
    element_t *out = zs_tensor_output(ctx, &p->out);
    const uint32_t max_row = p->weights.max_row;
    const struct inner inner = find_inner(p);
    const int32_t group_in = p->channels / (int32_t)p->groups;
    const int32_t group_out = p->out_channels / (int32_t)p->groups;

    uint8_t *next = ctx->arena + p->scratch;
    struct scratch s;
    s.cols = carve(&next, max_row * (uint32_t)sizeof *s.cols);
    s.weights = carve(&next, max_row * (uint32_t)sizeof *s.weights);
    s.taps = carve(&next, max_row * (uint32_t)sizeof *s.taps);
    s.live = next;
    mark_live(p, in, s.live);

    struct zs_decoder decoder;
    zs_decoder_start(&decoder, &p->weights);
    int32_t first = 0; /* input channel of the group */
    int32_t in_group = 0;
    for (int32_t oc = 0; oc < p->out_channels; oc++) {
        if (in_group == group_out) {
            in_group = 0;
            first += group_in;
        }
        in_group++;
        zs_decoder_row(&decoder);
        const int32_t n = (int32_t)zs_decoder_take(&decoder, s.cols, s.weights, max_row);
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            sum_t weight_sum;
            const int32_t count = list_taps(p, &s, n, first, oy, &weight_sum);
            output_row(ctx, p, in, out, s.taps, s.taps + count, inner, oc,
                       row_start(p, weight_sum));
            out += p->out_w;
        }
    }
}
