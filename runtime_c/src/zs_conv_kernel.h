/*
 * zs_conv_kernel.h - the sparse convolution loops, for one element type.
 *
 * Included by zs_conv_s8.c and zs_conv_f32.c, which define first:
 *     element_t, weight_t, sum_t          types of activations, weights, sums
 *     multiply_add(sum, weight, x)        one multiply-accumulate
 *     ZS_CONV_FUNCTION                    name of the kernel
 *     read_bias(stage, channel, stored)   the bias of an output channel
 *     read_scale(stage, channel)          its multiplier and shift, if sums are scaled
 *     start_sum(bias)                     where the sum of a pixel starts
 *     finish(stage, bias, scale, sum)     sum to element_t, bias included
 *     zero_offset(p, weight_sum)          what the input's zero point adds to the sum of
 *                                         a pixel whose taps are all inside the input
 *
 * The filter of one output channel is decoded once into scratch. For each row
 * of the output, the taps that read an input row outside the input, or one
 * that is zero throughout, are dropped: what is left is a list of (offset,
 * weight) that is swept over the row in tiles of pixels kept in registers.
 * Rows that use all taps share a list.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_conv.h"

#define TILE 4

/* A tap as seen from the windows of one output row. */
struct tap {
    int32_t offset; /* of its input element, from where a window starts */
    weight_t weight;
    int16_t dx; /* its column, from where a window starts */
};

/* The taps in use for an output row. */
struct tap_list {
    const struct tap *begin, *end;
    sum_t weight_sum;
    bool all; /* none was dropped: the list serves other such rows, too */
};

struct channel {
    sum_t bias;
    struct zs_scale scale;
};

struct scratch {
    uint16_t *cols;    /* the filter: columns of the weight matrix ... */
    weight_t *weights; /* ... and their weights */
    struct tap *taps;
    uint8_t *live; /* a bit per input row (c, y): not zero throughout */
    bool all_live;
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

static bool is_live(const element_t *row, int32_t width, element_t zero)
{
    for (int32_t x = 0; x < width; x++) {
        if (row[x] < zero || row[x] > zero) {
            return true;
        }
    }
    return false;
}

static void mark_live(const struct zs_conv *p, const element_t *in, struct scratch *s)
{
    const int32_t rows = p->channels * p->in_h;
    memset(s->live, 0, (size_t)(rows + 7) / 8);
    s->all_live = true;
    for (int32_t row = 0; row < rows; row++, in += p->in_w) {
        if (is_live(in, p->in_w, (element_t)p->in.zero_point)) {
            s->live[row >> 3] |= (uint8_t)(1 << (row & 7));
        } else {
            s->all_live = false;
        }
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

/* First input row under the windows of output row oy; negative in the padding. */
static int32_t window_top(const struct zs_conv *p, int32_t oy)
{
    return oy * (int32_t)p->stride_y - (int32_t)p->pad_top;
}

/* Whether windows that start at input row `top` use all taps. */
static bool uses_all_taps(const struct zs_conv *p, const struct scratch *s, int32_t top)
{
    const int32_t reach = (int32_t)((p->kernel_h - 1) * p->dilation_y);
    return s->all_live && top >= 0 && top + reach < p->in_h;
}

/*
 * List the taps of `n` filter elements for windows that start at input row
 * `top`, of a filter that reads the channels from `first` on: those that read a
 * row inside the input that is not zero throughout.
 */
static struct tap_list list_taps(const struct zs_conv *p, const struct scratch *s, int32_t n,
                                 int32_t first, int32_t top)
{
    const int32_t plane = p->in_h * p->in_w;
    const uint32_t kernel_w = p->kernel_w;
    uint32_t row_begin = 0; /* first column of the weight matrix in kernel row (c, ky) */
    int32_t c = first;
    int32_t dy = 0; /* row of the taps, from `top` */
    uint32_t ky = 0;
    struct tap *tap = s->taps;
    sum_t weight_sum = 0;
    int32_t i = 0;
    while (i < n) {
        while (s->cols[i] >= row_begin + kernel_w) {
            row_begin += kernel_w;
            dy += (int32_t)p->dilation_y;
            if (++ky == p->kernel_h) {
                ky = 0;
                dy = 0;
                c++;
            }
        }
        const int32_t y = top + dy;
        const int32_t row = c * p->in_h + y;
        const bool use = y >= 0 && y < p->in_h && (s->live[row >> 3] >> (row & 7) & 1) != 0;
        const int32_t offset = c * plane + dy * p->in_w;
        for (; i < n && s->cols[i] < row_begin + kernel_w; i++) {
            if (use) {
                const int32_t dx = (int32_t)((s->cols[i] - row_begin) * p->dilation_x);
                *tap++ = (struct tap){
                    .offset = offset + dx,
                    .weight = s->weights[i],
                    .dx = (int16_t)dx,
                };
                weight_sum = multiply_add(weight_sum, s->weights[i], 1);
            }
        }
    }
    return (struct tap_list){
        .begin = s->taps,
        .end = tap,
        .weight_sum = weight_sum,
        .all = tap - s->taps == n,
    };
}

/* Where the window of an output pixel starts: its input column, and index in the input. */
struct window {
    int32_t x;
    uint32_t at; /* modulo 2^32, as it may be in the padding */
};

static struct window window_at(const struct zs_conv *p, int32_t top, int32_t ox)
{
    const int32_t x = ox * (int32_t)p->stride_x - (int32_t)p->pad_left;
    return (struct window){ .x = x, .at = (uint32_t)top * (uint32_t)p->in_w + (uint32_t)x };
}

/* One pixel near the left or right edge: taps outside the input row are left out. */
static sum_t edge_pixel(const struct zs_conv *p, const element_t *in, struct tap_list taps,
                        struct window window, sum_t start, uint32_t *macs)
{
    const uint32_t width = (uint32_t)p->in_w;
    const element_t zero = (element_t)p->in.zero_point;
    sum_t sum = start;
    uint32_t count = 0;
    for (const struct tap *tap = taps.begin; tap < taps.end; tap++) {
        if ((uint32_t)(window.x + tap->dx) < width) {
            sum = multiply_add(sum, tap->weight, in[window.at + (uint32_t)tap->offset] - zero);
            count++;
        }
    }
    *macs += count;
    return sum;
}

/* TILE inner pixels. */
static void tile(const struct zs_conv *p, const element_t *in, struct tap_list taps, uint32_t at,
                 sum_t start, struct channel channel, element_t *out)
{
    const int32_t stride = (int32_t)p->stride_x;
    sum_t a0 = start, a1 = start, a2 = start, a3 = start;
    for (const struct tap *tap = taps.begin; tap < taps.end; tap++) {
        const element_t *x = in + (at + (uint32_t)tap->offset);
        a0 = multiply_add(a0, tap->weight, x[0]);
        a1 = multiply_add(a1, tap->weight, x[stride]);
        a2 = multiply_add(a2, tap->weight, x[2 * stride]);
        a3 = multiply_add(a3, tap->weight, x[3 * stride]);
    }
    out[0] = finish(&p->stage, channel.bias, channel.scale, a0);
    out[1] = finish(&p->stage, channel.bias, channel.scale, a1);
    out[2] = finish(&p->stage, channel.bias, channel.scale, a2);
    out[3] = finish(&p->stage, channel.bias, channel.scale, a3);
}

static void output_row(struct zs_ctx *ctx, const struct zs_conv *p, const element_t *in,
                       element_t *out, struct tap_list taps, struct inner inner,
                       struct channel channel, int32_t top)
{
    const sum_t start = start_sum(channel.bias);
    const sum_t inner_start = start - zero_offset(p, taps.weight_sum);
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        if (ox == inner.begin) {
            ox = inner.end;
            if (ox == p->out_w) {
                break;
            }
        }
        const sum_t sum = edge_pixel(p, in, taps, window_at(p, top, ox), start, &ctx->macs);
        out[ox] = finish(&p->stage, channel.bias, channel.scale, sum);
    }
    int32_t ox = inner.begin;
    while (inner.end - inner.begin >= TILE && ox < inner.end) {
        /* The last tile may overlap the one before, which costs less than single pixels. */
        ox = ox <= inner.end - TILE ? ox : inner.end - TILE;
        tile(p, in, taps, window_at(p, top, ox).at, inner_start, channel, out + ox);
        ox += TILE;
    }
    for (; ox < inner.end; ox++) {
        const uint32_t at = window_at(p, top, ox).at;
        sum_t sum = inner_start;
        for (const struct tap *tap = taps.begin; tap < taps.end; tap++) {
            sum = multiply_add(sum, tap->weight, in[at + (uint32_t)tap->offset]);
        }
        out[ox] = finish(&p->stage, channel.bias, channel.scale, sum);
    }
    ctx->macs += (uint32_t)(taps.end - taps.begin) * (uint32_t)(inner.end - inner.begin);
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
    mark_live(p, in, &s);

    struct zs_decoder decoder;
    zs_decoder_start(&decoder, &p->weights);
    int32_t first = 0; /* input channel of the group */
    int32_t in_group = 0;
    uint32_t biases = 0; /* read */
    for (int32_t oc = 0; oc < p->out_channels; oc++) {
        if (in_group == group_out) {
            in_group = 0;
            first += group_in;
        }
        in_group++;
        zs_decoder_row(&decoder);
        const int32_t n = (int32_t)zs_decoder_take(&decoder, s.cols, s.weights, max_row);
        const struct channel channel = {
            .bias = read_bias(&p->stage, (uint32_t)oc, &biases),
            .scale = read_scale(&p->stage, (uint32_t)oc),
        };
        struct tap_list taps = { .all = false };
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            const int32_t top = window_top(p, oy);
            if (!taps.all || !uses_all_taps(p, &s, top)) {
                taps = list_taps(p, &s, n, first, top);
            }
            output_row(ctx, p, in, out, taps, inner, channel, top);
            out += p->out_w;
        }
    }
}
