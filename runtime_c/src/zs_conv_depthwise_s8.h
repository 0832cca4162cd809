/*
 * zs_conv_depthwise_s8.h - depthwise 3 x 3 convolutions with stride 1 or 2, for
 * the DSP extension. Four pixels at a time, a kernel row at a time: from words
 * of neighbours come pairs two apart, which the outer weights of the row take
 * with one SMLAD; the middle one takes a halfword of another pair. Bytes beyond
 * the edges are replaced by the zero point in the word.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_DEPTHWISE_S8_H
#define ZS_CONV_DEPTHWISE_S8_H

#define DSP1(name, instruction)                  \
    static inline uint32_t name(uint32_t a)      \
    {                                            \
        uint32_t r;                              \
        __asm__(instruction : "=r"(r) : "r"(a)); \
        return r;                                \
    }
DSP1(even_bytes, "sxtb16 %0, %1")
DSP1(odd_bytes, "sxtb16 %0, %1, ror #8")

#define DSP3(name, instruction)                                            \
    static inline uint32_t name(uint32_t sum, uint32_t weight, uint32_t x) \
    {                                                                      \
        uint32_t r;                                                        \
        __asm__(instruction : "=r"(r) : "r"(weight), "r"(x), "r"(sum));    \
        return r;                                                          \
    }
DSP3(add_both, "smlad %0, %1, %2, %3")
DSP3(add_low, "smlabb %0, %1, %2, %3")
DSP3(add_high, "smlabt %0, %1, %2, %3")

static inline uint32_t load_word(const int8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* A kernel row: the outer weights as a pair, and the middle one. */
struct kernel_row {
    uint32_t outer, middle;
};

/* What pixels of one output row share. */
struct row {
    const int8_t *in; /* where the window of its first pixel starts: perhaps left of the input */
    const struct kernel_row *kernel; /* rows that are inside the input */
    int32_t kernel_rows;
    int32_t in_w;
    uint32_t start;
    uint32_t zero; /* the input's zero point as a byte */
};

static inline uint32_t left_word(const struct row *r, const int8_t *x, bool edge)
{
    return edge ? load_word(x + 1) << 8 | r->zero : load_word(x);
}

static inline uint32_t right_word(const struct row *r, const int8_t *x, bool edge)
{
    return edge ? load_word(x - 1) >> 8 | r->zero << 24 : load_word(x);
}

static inline void depthwise_tile(const struct row *r, int32_t stride, const int8_t *x, bool left,
                                  bool right, uint32_t *sums)
{
    uint32_t s0 = r->start, s1 = s0, s2 = s0, s3 = s0;
    const struct kernel_row *const end = r->kernel + r->kernel_rows;
    for (const struct kernel_row *k = r->kernel; k < end; k++, x += r->in_w) {
        const uint32_t first = left_word(r, x, left);
        const uint32_t even = even_bytes(first);
        const uint32_t odd = odd_bytes(first);
        s0 = add_low(add_both(s0, k->outer, even), k->middle, odd);
        if (stride == 1) { /* first is x0 ... x3, last x2 ... x5 */
            const uint32_t last = right_word(r, x + 2, right);
            const uint32_t even_last = even_bytes(last);
            s1 = add_high(add_both(s1, k->outer, odd), k->middle, even);
            s2 = add_high(add_both(s2, k->outer, even_last), k->middle, odd);
            s3 = add_high(add_both(s3, k->outer, odd_bytes(last)), k->middle, even_last);
        } else {
            const uint32_t second = load_word(x + 2);
            const uint32_t third = load_word(x + 4);
            const uint32_t last = right_word(r, x + 5, right); /* x5 ... x8 */
            s1 = add_low(add_both(s1, k->outer, even_bytes(second)), k->middle, odd_bytes(second));
            s2 = add_low(add_both(s2, k->outer, even_bytes(third)), k->middle, odd_bytes(third));
            s3 = add_high(add_both(s3, k->outer, odd_bytes(last)), k->middle, even_bytes(last));
        }
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* One pixel, not the first of its row. */
static inline uint32_t depthwise_pixel(const struct row *r, const int8_t *x, bool right)
{
    uint32_t sum = r->start;
    const struct kernel_row *const end = r->kernel + r->kernel_rows;
    for (const struct kernel_row *k = r->kernel; k < end; k++, x += r->in_w) {
        const int32_t last = right ? (int8_t)r->zero : x[2];
        sum += (uint32_t)((int16_t)k->outer * x[0] + (int16_t)k->middle * x[1]
                          + ((int32_t)k->outer >> 16) * last);
    }
    return sum;
}

static ZS_NOINLINE void depthwise_row(const struct row *r, int32_t stride, bool left, bool right,
                                      const struct channel *channel, int8_t *out, int32_t width)
{
    uint32_t sums[BLOCK];
    for (int32_t begin = 0; begin < width; begin += BLOCK) {
        const int32_t n = width - begin < BLOCK ? width - begin : BLOCK;
        for (int32_t i = 0; i < n; i += TILE) {
            const int32_t x = begin + i;
            if (width - x < TILE) { /* what is left of the row */
                for (; i < n; i++) {
                    sums[i] = depthwise_pixel(r, r->in + stride * (begin + i),
                                              right && begin + i == width - 1);
                }
                break;
            }
            const bool first = left && x == 0;
            const bool last = right && x == width - TILE;
            if (stride == 1) {
                depthwise_tile(r, 1, r->in + x, first, last, sums + i);
            } else {
                depthwise_tile(r, 2, r->in + 2 * x, first, last, sums + i);
            }
        }
        finish(channel, sums, n, out + begin, 1);
    }
}

/* The next filter. Returns whether any weight is not 0; `sums` are those of its rows. */
static bool read_kernel(struct zs_decoder *decoder, struct kernel_row *kernel, uint32_t *sums)
{
    uint16_t cols[9];
    int16_t weights[9];
    int16_t all[9] = { 0 };
    zs_decoder_row(decoder);
    const unsigned n = zs_decoder_take(decoder, cols, weights, 9);
    for (unsigned i = 0; i < n; i++) {
        all[cols[i]] = weights[i];
    }
    for (int32_t y = 0; y < 3; y++) {
        const int16_t *w = all + 3 * y;
        kernel[y] = (struct kernel_row){
            .outer = (uint16_t)w[0] | (uint32_t)(uint16_t)w[2] << 16,
            .middle = (uint16_t)w[1],
        };
        sums[y] = (uint32_t)(w[0] + w[1] + w[2]);
    }
    return n != 0;
}

static bool is_depthwise(const struct zs_conv *p, int32_t beyond)
{
    const int32_t groups = (int32_t)p->groups;
    const int32_t stride = (int32_t)p->stride_x;
    return groups == p->channels && groups == p->out_channels && p->kernel_h == 3
           && p->kernel_w == 3 && p->stride_x == p->stride_y && stride <= 2 && p->dilation_x == 1
           && p->dilation_y == 1 && p->pad_left <= 1 && p->pad_top <= 1 && beyond <= 1
           && p->out_w >= TILE && p->in_w >= TILE * stride;
}

/* Returns false if this is not such a convolution. */
static bool run_depthwise(struct zs_ctx *ctx, const struct zs_conv *p, const int8_t *in,
                          int8_t *out)
{
    const int32_t stride = (int32_t)p->stride_x;
    const int32_t pad_left = (int32_t)p->pad_left;
    /* Columns that the last window has beyond the input. */
    const int32_t beyond = (p->out_w - 1) * stride + 3 - pad_left - p->in_w;
    if (!is_depthwise(p, beyond)) {
        return false;
    }
    struct row row = { .in_w = p->in_w, .zero = (uint8_t)p->in.zero_point };
    struct zs_decoder decoder;
    zs_decoder_start(&decoder, &p->weights);
    uint32_t biases = 0;
    for (int32_t c = 0; c < p->channels; c++, in += p->in_h * p->in_w) {
        struct kernel_row kernel[3];
        uint32_t weight_sums[3];
        const struct channel channel = read_channel(p, (uint32_t)c, &biases);
        const bool live = read_kernel(&decoder, kernel, weight_sums)
                          && is_live(in, p->in_h * p->in_w, (int8_t)p->in.zero_point);
        if (!live) {
            const int32_t area = p->out_h * p->out_w;
            finish(&channel, &channel.bias, 1, out, 1);
            memset(out, *out, (size_t)(uint32_t)area);
            out += area;
            continue;
        }
        for (int32_t y = 0; y < p->out_h; y++, out += p->out_w) {
            const int32_t top = y * stride - (int32_t)p->pad_top;
            const int32_t begin = top < 0 ? -top : 0;
            const int32_t end = p->in_h - top < 3 ? p->in_h - top : 3;
            uint32_t weight_sum = 0;
            for (int32_t i = begin; i < end; i++) {
                weight_sum += weight_sums[i];
            }
            row.in = in + (top + begin) * p->in_w - pad_left;
            row.kernel = kernel + begin;
            row.kernel_rows = end - begin;
            row.start = start_sum(&channel) - zero_offset(p, weight_sum);
            depthwise_row(&row, stride, pad_left != 0, beyond > 0, &channel, out, p->out_w);
            ctx->macs += (uint32_t)(3 * row.kernel_rows * p->out_w);
        }
    }
    return true;
}

#endif
