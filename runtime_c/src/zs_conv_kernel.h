/*
 * zs_conv_kernel.h - the sparse convolution loops, for one element type.
 *
 * Included by zs_conv_s8.c and zs_conv_f32.c, which define first:
 *     element_t, weight_t, sum_t          types of activations, weights, sums
 *     multiply_add(sum, weight, x)        one multiply-accumulate
 *     struct tap, TAPS_SIZE(n)            taps as the tiles want them, bytes of n
 *     put_tap(next, i, offset, weight)    store tap i; where the next goes
 *     put_two(next, ...)                  the same for two, of which the first is even
 *     is_live(row, width, zero)           whether an element is not zero
 *     tiles(...), pixel(...)              sums of TILE or more pixels with one list of taps, or
 *                                         of one pixel
 *     TILE, BLOCK                         pixels of a tile, and between two calls of finish()
 *     ROW_LIST_COST                       what a tap costs in a list, in pixels of a tile
 *     ZS_CONV_FUNCTION                    name of the kernel
 *     struct channel                      what turns sums into outputs
 *     read_channel(p, channel, stored)    that of an output channel
 *     start_sum(channel)                  where the sum of a pixel starts
 *     finish(channel, sums, n, out, step) n sums to outputs `step` apart
 *     zero_offset(p, weight_sum)          what the input's zero point adds to the sum
 *
 * The filter of one output channel is decoded once into scratch, without the
 * taps of input channels that are zero throughout. The output falls into
 * regions whose pixels have the same taps inside the input: an inner one, and
 * rows and columns along its edges. For each a list of (offset, weight) is made
 * and swept over its pixels in tiles that are kept in registers. Where many
 * input rows are zero, each output row has a list of its own, without them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_conv.h"

/* What dropping the taps of dead channels costs for each tap of a filter, in pixels of a tile. */
#define DROP_COST 6

/* (x * RECIPROCAL(d)) >> 16 is x / d for x * d < 65536. */
#define RECIPROCAL(d) (65536 / (d) + 1)

/* The taps in use for a region. */
struct tap_list {
    int32_t count;
    sum_t weight_sum;
};

struct scratch {
    uint16_t *cols;    /* the filter: columns of the weight matrix ... */
    weight_t *weights; /* ... and their weights */
    struct tap *taps;
    uint8_t *live;      /* a bit per input row, or channel if dead_channels: not zero throughout */
    bool dead_channels; /* enough of them are zero to drop their taps */
    bool dead_rows;     /* enough rows of other channels are, for a list for each output row */
    bool divisible;     /* columns are small enough for reciprocals */
    bool whole;         /* all windows lie inside, and the list does not depend on the row */
    bool mostly_live;   /* too few channels are zero for two filters at a time not to be faster */
};

/* Output positions along an axis, [begin, end): their windows lie inside the input. */
struct inner {
    int32_t begin, end;
};

/* The filter of an output channel; it reads the input channels from `first` on. */
struct filter {
    int32_t count, first;
};

/* What the pixels of a region share. */
struct sums {
    const struct tap *taps;
    int32_t count; /* of taps */
    sum_t start;
    struct channel channel;
};

/* Lines of `count` pixels each, and the steps between pixels and between lines. */
struct line {
    int32_t count, in_step, out_step;
    int32_t lines, in_next, out_next;
};

static void *carve(uint8_t **next, uint32_t size)
{
    void *part = *next;
    *next += size;
    return part;
}

static inline bool bit_is_set(const uint8_t *bits, int32_t i)
{
    return (bits[i >> 3] >> (i & 7) & 1) != 0;
}

static bool row_is_live(const struct scratch *s, int32_t row)
{
    return bit_is_set(s->live, row);
}

static bool any_row_is_live(const struct scratch *s, int32_t first, int32_t rows)
{
    for (int32_t row = first; row < first + rows; row++) {
        if (row_is_live(s, row)) {
            return true;
        }
    }
    return false;
}

static void mark_live(const struct zs_conv *p, const element_t *in, struct scratch *s)
{
    const int32_t rows = p->channels * p->in_h;
    const int64_t pixels = (int64_t)p->out_h * p->out_w;
    int32_t dead = 0; /* rows, of channels that are not dead */
    int32_t dead_channels = 0;
    int32_t row = 0;
    memset(s->live, 0, (size_t)(rows + 7) / 8);
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t live = 0;
        for (int32_t y = 0; y < p->in_h; y++, row++, in += p->in_w) {
            if (is_live(in, p->in_w, (element_t)p->in.zero_point)) {
                s->live[row >> 3] |= (uint8_t)(1 << (row & 7));
                live++;
            }
        }
        dead += live == 0 ? 0 : p->in_h - live;
        dead_channels += live == 0;
    }
    s->mostly_live = 4 * dead_channels < p->channels;
    s->dead_rows = (int64_t)dead * p->out_w > (int64_t)rows * ROW_LIST_COST;
    s->dead_channels = dead_channels * pixels > (int64_t)p->channels * DROP_COST && s->divisible
                       && !s->dead_rows; /* lists for a row are without them anyway */
    if (s->dead_channels) {
        for (int32_t c = 0; c < p->channels; c++) { /* a bit per channel is enough */
            const bool live = any_row_is_live(s, c * p->in_h, p->in_h);
            s->live[c >> 3] &= (uint8_t) ~(1 << (c & 7));
            s->live[c >> 3] |= (uint8_t)(live << (c & 7));
        }
    }
}

/* Drop the taps of dead channels. Returns how many are left. */
static ZS_NOINLINE int32_t drop_dead_channels(const struct zs_conv *p, struct scratch *s,
                                              struct filter filter)
{
    const uint32_t per_row = RECIPROCAL(p->kernel_w), per_channel = RECIPROCAL(p->kernel_h);
    const uint8_t *live = s->live;
    const uint16_t *col = s->cols;
    const uint16_t *end = col + filter.count;
    const weight_t *weight = s->weights;
    uint16_t *col_kept = s->cols;
    weight_t *weight_kept = s->weights;
    for (; col < end; col++, weight++) {
        const uint32_t c = (*col * per_row >> 16) * per_channel >> 16;
        *col_kept = *col;
        *weight_kept = *weight;
        const bool keep = bit_is_set(live, filter.first + (int32_t)c);
        col_kept += keep;
        weight_kept += keep;
    }
    return (int32_t)(col_kept - s->cols);
}

static ZS_NOINLINE struct inner find_inner(int32_t in, int32_t out, uint32_t kernel,
                                           uint32_t stride, uint32_t dilation, uint32_t pad)
{
    const int32_t reach = (int32_t)((kernel - 1) * dilation);
    struct inner inner = { .begin = (int32_t)((pad + stride - 1) / stride), .end = 0 };
    const int32_t last = in - 1 + (int32_t)pad - reach; /* the last window's start, if inside */
    if (last >= 0) {
        inner.end = (int32_t)((uint32_t)last / stride) + 1;
    }
    if (inner.end > out) {
        inner.end = out;
    }
    if (inner.begin > inner.end) {
        inner.begin = inner.end = 0;
    }
    return inner;
}

/*
 * With kernel row q and channel c of a column of the weight matrix the offset
 * of its tap is linear in the three. Quotients are made by multiplying with
 * reciprocals.
 */
struct offsets {
    uint32_t per_row, per_channel;
    uint32_t column_step, row, channel;
};

static inline int32_t offset_of(const struct offsets *o, uint32_t start, uint32_t col)
{
    const uint32_t q = col * o->per_row >> 16;
    const uint32_t c = q * o->per_channel >> 16;
    return (int32_t)(start + col * o->column_step + q * o->row + c * o->channel);
}

/* All taps of a filter, where all lie inside the input. */
static ZS_NOINLINE struct tap_list list_all_taps(const struct zs_conv *p, const struct scratch *s,
                                                 struct filter filter)
{
    const uint32_t row_step = p->dilation_y * (uint32_t)p->in_w;
    const uint32_t plane = (uint32_t)(p->in_h * p->in_w);
    const struct offsets o = {
        .per_row = RECIPROCAL(p->kernel_w),
        .per_channel = RECIPROCAL(p->kernel_h),
        .column_step = p->dilation_x,
        .row = row_step - p->kernel_w * p->dilation_x,
        .channel = plane - p->kernel_h * row_step,
    };
    const uint32_t start = (uint32_t)filter.first * plane;
    const uint16_t *col = s->cols;
    const weight_t *weight = s->weights;
    struct tap *next = s->taps;
    sum_t weight_sum = 0;
    for (const uint16_t *end = col + (filter.count & ~1); col < end; col += 2, weight += 2) {
        next = put_two(next, offset_of(&o, start, col[0]), weight[0], offset_of(&o, start, col[1]),
                       weight[1]);
        weight_sum = multiply_add(weight_sum, weight[0], 1);
        weight_sum = multiply_add(weight_sum, weight[1], 1);
    }
    if ((filter.count & 1) != 0) {
        put_tap(next, 0, offset_of(&o, start, *col), *weight);
        weight_sum = multiply_add(weight_sum, *weight, 1);
    }
    return (struct tap_list){ .count = filter.count, .weight_sum = weight_sum };
}

/*
 * List the taps of a filter that lie inside the input, for a region whose
 * first window starts at (top, left), and if `rows_of_one` those that read a
 * row that is live: the list then serves one output row only.
 */
static ZS_NOINLINE struct tap_list list_taps(const struct zs_conv *p, const struct scratch *s,
                                             struct filter filter, int32_t top, int32_t left,
                                             bool rows_of_one)
{
    const int32_t plane = p->in_h * p->in_w;
    const int32_t start = filter.first * plane + top * p->in_w + left; /* may be outside */
    const uint32_t kernel_w = p->kernel_w;
    const int32_t row_step = (int32_t)p->dilation_y * p->in_w;
    const int32_t channel_step = plane - (int32_t)p->kernel_h * row_step;
    const uint32_t width = (uint32_t)p->in_w;
    uint32_t row_end = kernel_w; /* columns of the weight matrix in kernel row (c, ky) end */
    uint32_t ky = 0;
    int32_t c = filter.first;
    int32_t row = start; /* offset of the first tap in the kernel row */
    bool use =
        (uint32_t)top < (uint32_t)p->in_h && (!rows_of_one || row_is_live(s, c * p->in_h + top));
    struct tap *next = s->taps;
    sum_t weight_sum = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < filter.count; i++) {
        const uint32_t col = s->cols[i];
        if (col >= row_end) {
            do {
                row_end += kernel_w;
                row += row_step;
                if (++ky == p->kernel_h) {
                    ky = 0;
                    row += channel_step;
                    c++;
                }
            } while (col >= row_end);
            const int32_t y = top + (int32_t)(ky * p->dilation_y);
            use = (uint32_t)y < (uint32_t)p->in_h
                  && (!rows_of_one || row_is_live(s, c * p->in_h + y));
        }
        const int32_t dx = (int32_t)((col + kernel_w - row_end) * p->dilation_x);
        if (use && (uint32_t)(left + dx) < width) {
            next = put_tap(next, count, row + dx, s->weights[i]);
            weight_sum = multiply_add(weight_sum, s->weights[i], 1);
            count++;
        }
    }
    return (struct tap_list){ .count = count, .weight_sum = weight_sum };
}

/* Sums of the first `n` pixels of some lines; `in` is the input of the region's first pixel, moved
 * to them. */
static ZS_NOINLINE void sum_lines(const struct sums *s, const element_t *in,
                                  const struct line *line, sum_t *sums, int32_t n, int32_t lines)
{
    if (n >= TILE) {
        tiles(s->taps, s->count, in, line->in_step, s->start, sums, n, lines, line->in_next);
        return;
    }
    for (; lines > 0; lines--, in += line->in_next, sums += n) {
        for (int32_t i = 0; i < n; i++) {
            sums[i] = pixel(s->taps, s->count, in + i * line->in_step, s->start);
        }
    }
}

/* Lines of pixels: rows, or columns of what is narrow. */
static ZS_NOINLINE void sweep(const struct sums *s, const element_t *in, element_t *out,
                              const struct line *line)
{
    sum_t sums[BLOCK];
    const int32_t count = line->count;
    /* Short rows that follow each other in the output are finished together. */
    const bool joined = line->out_step == 1 && line->out_next == count;
    const int32_t most = joined && count < BLOCK ? (int32_t)((uint32_t)BLOCK / (uint32_t)count) : 1;
    int32_t lines;
    for (int32_t left = line->lines; left > 0; left -= lines) {
        lines = left < most ? left : most;
        if (count <= BLOCK) {
            sum_lines(s, in, line, sums, count, lines);
            finish(&s->channel, sums, lines * count, out, line->out_step);
        } else {
            for (int32_t begin = 0; begin < count; begin += BLOCK) {
                const int32_t n = count - begin < BLOCK ? count - begin : BLOCK;
                sum_lines(s, in + begin * line->in_step, line, sums, n, 1);
                finish(&s->channel, sums, n, out + begin * line->out_step, line->out_step);
            }
        }
        in += lines * line->in_next;
        out += lines * line->out_next;
    }
}

/* A rectangle of output pixels that use the same taps. */
struct region {
    int32_t y, x, height, width;
};

static void run_region(struct zs_ctx *ctx, const struct zs_conv *p, const struct scratch *s,
                       struct filter filter, struct region region, const element_t *in,
                       element_t *out, struct channel channel)
{
    const int32_t stride_y = (int32_t)p->stride_y;
    const int32_t stride_x = (int32_t)p->stride_x;
    const int32_t top = region.y * stride_y - (int32_t)p->pad_top;
    const int32_t left = region.x * stride_x - (int32_t)p->pad_left;
    const struct tap_list taps =
        s->whole ? list_all_taps(p, s, filter) : list_taps(p, s, filter, top, left, s->dead_rows);
    const struct sums sums = {
        .taps = s->taps,
        .count = taps.count,
        .start = start_sum(&channel) - zero_offset(p, taps.weight_sum),
        .channel = channel,
    };
    const bool down = region.width < TILE && region.height > region.width;
    const int32_t in_row = stride_y * p->in_w;
    struct line line = { region.width, stride_x, 1, region.height, in_row, p->out_w };
    if (down) {
        line = (struct line){ region.height, in_row, p->out_w, region.width, stride_x, 1 };
    }
    sweep(&sums, in, out + region.y * p->out_w + region.x, &line);
    ctx->macs += (uint32_t)taps.count * (uint32_t)(region.height * region.width);
}

/* Length of the region that begins at `at` along an axis: the inner one is one, others have 1. */
static int32_t extent(struct inner inner, int32_t at)
{
    return at == inner.begin && inner.end > at ? inner.end - at : 1;
}

void ZS_CONV_FUNCTION(struct zs_ctx *ctx, const struct zs_conv *p)
{
    const element_t *in = zs_tensor_input(ctx, &p->in);
    element_t *out = zs_tensor_output(ctx, &p->out);
#ifdef ZS_CONV_DEPTHWISE
    if (ZS_CONV_DEPTHWISE(ctx, p, in, out)) {
        return;
    }
#endif
    const uint32_t max_row = p->weights.max_row;
    const struct inner inner_y =
        find_inner(p->in_h, p->out_h, p->kernel_h, p->stride_y, p->dilation_y, p->pad_top);
    const struct inner inner_x =
        find_inner(p->in_w, p->out_w, p->kernel_w, p->stride_x, p->dilation_x, p->pad_left);
    const int32_t group_in = (int32_t)((uint32_t)p->channels / p->groups);
    const int32_t group_out = (int32_t)((uint32_t)p->out_channels / p->groups);

    uint8_t *next = ctx->arena + p->scratch;
    struct scratch s;
    s.taps = carve(&next, TAPS_SIZE(max_row));
    s.weights = carve(&next, max_row * (uint32_t)sizeof *s.weights);
    s.cols = carve(&next, max_row * (uint32_t)sizeof *s.cols);
    s.live = next;
    const uint32_t largest = p->kernel_w > p->kernel_h ? p->kernel_w : p->kernel_h;
    s.divisible = (uint64_t)p->weights.cols * largest < 65536;
    mark_live(p, in, &s);

    const bool inner = inner_y.begin == 0 && inner_y.end == p->out_h && inner_x.begin == 0
                       && inner_x.end == p->out_w;
    s.whole = inner && !s.dead_rows && s.divisible;
#ifdef ZS_CONV_DENSE
    if (inner && !s.dead_rows && s.mostly_live && ZS_CONV_DENSE(ctx, p, in, out)) {
        return;
    }
#endif

    struct zs_decoder decoder;
    zs_decoder_start(&decoder, &p->weights);
    struct filter filter = { .first = 0 };
    int32_t in_group = 0;
    uint32_t biases = 0; /* read */
    for (int32_t oc = 0; oc < p->out_channels; oc++, out += p->out_h * p->out_w) {
        if (in_group == group_out) {
            in_group = 0;
            filter.first += group_in;
        }
        in_group++;
        zs_decoder_row(&decoder);
        filter.count = (int32_t)zs_decoder_take(&decoder, s.cols, s.weights, max_row);
        if (s.dead_channels) {
            filter.count = drop_dead_channels(p, &s, filter);
        }
        const struct channel channel = read_channel(p, (uint32_t)oc, &biases);
        struct region region = { .y = 0 };
        for (; region.y < p->out_h; region.y += region.height) {
            region.height = s.dead_rows ? 1 : extent(inner_y, region.y);
            for (region.x = 0; region.x < p->out_w; region.x += region.width) {
                region.width = extent(inner_x, region.x);
                run_region(ctx, p, &s, filter, region, in, out, channel);
            }
        }
    }
}
