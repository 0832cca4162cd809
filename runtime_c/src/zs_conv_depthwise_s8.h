/*
 * zs_conv_depthwise_s8.h - depthwise 3 x 3 convolutions with stride 1 or 2, for
 * the DSP extension. Four pixels at a time, a kernel row at a time: from words
 * of neighbours come pairs two apart, which the outer weights of the row take
 * with one SMLAD; the middle one takes a halfword of another pair. Bytes beyond
 * the edges are replaced by the zero point in the word; tiles away from them are
 * assembly.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_DEPTHWISE_S8_H
#define ZS_CONV_DEPTHWISE_S8_H

#include "zs_conv_tile_dsp.h"

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

/* Rows of tiles inside the input, with all kernel rows. The assembly knows where each member is. */
struct depthwise_rows {
    uint32_t outer[3],
        middle[2]; /* pairs of weights: first and last of a row, middle of two rows */
    const int8_t *in;
    int32_t in_w;
    int32_t tiles; /* in a row */
    uint32_t start;
    uint32_t *sums; /* rows follow each other */
    int32_t rows;
    int32_t back; /* the last tile of a row may overlap the one before: in bytes of input ... */
    int32_t back_sums; /* ... and of sums */
    int32_t next;      /* bytes of input from the end of a row to the next one */
};

void zs_conv_depthwise_rows(const struct depthwise_rows *rows);
void zs_conv_depthwise_rows_stride_2(const struct depthwise_rows *rows);

/* r1-r5 weights, r6 in, r7 in_w, r8-r11 sums; the stack has the tiles left in a row,
 * their sums, the start, the struct and the rows left. `half` is that of `middle` with the row's
 * weight. */
#define DEPTHWISE_FIRST(outer, middle, half) \
    "ldr.w r0, [r6]\n\t"                     \
    "ldr.w r12, [r6, #2]\n\t"                \
    "sxtb16 lr, r0\n\t"                      \
    "sxtb16 r0, r0, ror #8\n\t"              \
    "smlad r8, " outer ", lr, r8\n\t"        \
    "smla" half "b r8, " middle ", r0, r8\n\t"

#define DEPTHWISE_ROW(outer, middle, half)       \
    DEPTHWISE_FIRST(outer, middle, half)         \
    "smlad r9, " outer ", r0, r9\n\t"            \
    "smla" half "t r9, " middle ", lr, r9\n\t"   \
    "smla" half "t r10, " middle ", r0, r10\n\t" \
    "sxtb16 lr, r12\n\t"                         \
    "sxtb16 r0, r12, ror #8\n\t"                 \
    "smlad r10, " outer ", lr, r10\n\t"          \
    "smlad r11, " outer ", r0, r11\n\t"          \
    "smla" half "t r11, " middle ", lr, r11\n\t"

#define DEPTHWISE_ROW_STRIDE_2(outer, middle, half) \
    DEPTHWISE_FIRST(outer, middle, half)            \
    "sxtb16 lr, r12\n\t"                            \
    "sxtb16 r12, r12, ror #8\n\t"                   \
    "smlad r9, " outer ", lr, r9\n\t"               \
    "smla" half "b r9, " middle ", r12, r9\n\t"     \
    "ldr.w r0, [r6, #4]\n\t"                        \
    "ldr.w r12, [r6, #5]\n\t"                       \
    "sxtb16 lr, r0\n\t"                             \
    "sxtb16 r0, r0, ror #8\n\t"                     \
    "smlad r10, " outer ", lr, r10\n\t"             \
    "smla" half "b r10, " middle ", r0, r10\n\t"    \
    "sxtb16 lr, r12\n\t"                            \
    "sxtb16 r12, r12, ror #8\n\t"                   \
    "smlad r11, " outer ", r12, r11\n\t"            \
    "smla" half "t r11, " middle ", lr, r11\n\t"

#define DEPTHWISE_ROWS(name, row, advance)                                                         \
    FUNCTION(name,                                                                                 \
             "push {r4-r11, lr}\n\t"                                                               \
             "ldr r1, [r0, #28]\n\t"                                                               \
             "ldr r2, [r0, #36]\n\t"                                                               \
             "ldr r3, [r0, #32]\n\t"                                                               \
             "mov r4, r0\n\t"                                                                      \
             "ldr r5, [r0, #40]\n\t"                                                               \
             "push {r1-r5}\n\t"                                                                    \
             "ldmia r0, {r1-r7}\n\t"                                                               \
             ".balign 4\n"                                                                         \
             "1:\n\t"                                                                              \
             "ldr.w r8, [sp, #8]\n\t"                                                              \
             "mov.w r9, r8\n\t"                                                                    \
             "mov.w r10, r8\n\t"                                                                   \
             "mov.w r11, r8\n\t" row("r1", "r4", "b") "add.w r6, r6, r7\n\t" row(                  \
                 "r2", "r4", "t") "add.w r6, r6, r7\n\t" row("r3", "r5",                           \
                                                             "b") "sub.w r6, r6, r7, lsl #1\n\t"   \
                                                                  "add.w r6, r6, #" advance "\n\t" \
                                                                  "ldrd r0, r12, [sp]\n\t"         \
                                                                  "stmia r12!, {r8-r11}\n\t"       \
                                                                  "subs r0, #1\n\t"                \
                                                                  "strd r0, r12, [sp]\n\t"         \
                                                                  "cmp r0, #1\n\t"                 \
                                                                  "bgt 1b\n\t"                     \
                                                                  "ldr lr, [sp, #12]\n\t"          \
                                                                  "beq 2f\n\t"                     \
                                                                  "ldr.w r0, [lr, #52]\n\t"        \
                                                                  "add r6, r0\n\t"                 \
                                                                  "ldr r0, [sp, #16]\n\t"          \
                                                                  "subs r0, #1\n\t"                \
                                                                  "str r0, [sp, #16]\n\t"          \
                                                                  "beq 3f\n\t"                     \
                                                                  "ldr.w r0, [lr, #28]\n\t"        \
                                                                  "str r0, [sp]\n\t"               \
                                                                  "b 1b\n"                         \
                                                                  "2:\n\t"                         \
                                                                  "ldr.w r0, [lr, #44]\n\t"        \
                                                                  "subs r6, r6, r0\n\t"            \
                                                                  "ldr.w r0, [lr, #48]\n\t"        \
                                                                  "sub.w r12, r12, r0\n\t"         \
                                                                  "str.w r12, [sp, #4]\n\t"        \
                                                                  "b 1b\n"                         \
                                                                  "3:\n\t"                         \
                                                                  "add sp, #20\n\t"                \
                                                                  "pop {r4-r11, pc}\n\t")

DEPTHWISE_ROWS("zs_conv_depthwise_rows", DEPTHWISE_ROW, "4");
DEPTHWISE_ROWS("zs_conv_depthwise_rows_stride_2", DEPTHWISE_ROW_STRIDE_2, "8");

#define AT_ONCE 64 /* pixels between two calls of finish() */

/* Rows of pixels whose windows lie inside the input, from pixel x of the first row on. */
static ZS_NOINLINE void depthwise_inner(const struct row *r, int32_t stride, int32_t x,
                                        const struct channel *channel, int8_t *out, int32_t width,
                                        int32_t rows)
{
    uint32_t sums[AT_ONCE];
    const struct kernel_row *k = r->kernel;
    struct depthwise_rows block = {
        .outer = { k[0].outer, k[1].outer, k[2].outer },
        .middle = { k[0].middle | k[1].middle << 16, k[2].middle },
        .in_w = r->in_w,
        .start = r->start,
        .sums = sums,
    };
    const int8_t *in = r->in + stride * x;
    const int32_t most = width <= AT_ONCE ? AT_ONCE / width : 1; /* rows at once */
    for (; rows > 0; rows -= most, in += most * stride * r->in_w) {
        block.rows = rows < most ? rows : most;
        block.in = in;
        int32_t n;
        for (int32_t left = width; left > 0; left -= n) {
            n = left <= AT_ONCE ? left : left < AT_ONCE + TILE ? AT_ONCE - TILE : AT_ONCE;
            block.tiles = (n + TILE - 1) / TILE;
            block.back = stride * (block.tiles * TILE - n);
            block.back_sums = (block.tiles * TILE - n) * (int32_t)sizeof *sums;
            block.next = stride * (r->in_w - n);
            if (stride == 1) {
                zs_conv_depthwise_rows(&block);
            } else {
                zs_conv_depthwise_rows_stride_2(&block);
            }
            finish(channel, sums, n * block.rows, out, 1);
            block.in += stride * n;
            out += n * block.rows;
        }
    }
}

/* The last pixels of rows, anew: the last column of their windows is beyond the input. */
static ZS_NOINLINE void last_column(const struct row *r, int32_t stride,
                                    const struct channel *channel, int8_t *out, int32_t width,
                                    int32_t rows)
{
    const int8_t *x = r->in + stride * (width - 1);
    for (; rows > 0; rows--, x += stride * r->in_w, out += width) {
        uint32_t sum = r->start;
        const int8_t *in = x;
        for (int32_t i = 0; i < 3; i++, in += r->in_w) {
            const struct kernel_row *k = r->kernel + i;
            sum += (uint32_t)((int16_t)k->outer * in[0] + (int16_t)k->middle * in[1]
                              + ((int32_t)k->outer >> 16) * (int8_t)r->zero);
        }
        finish(channel, &sum, 1, out + width - 1, 1);
    }
}

/* A row with pixels at the edges. */
static ZS_NOINLINE void depthwise_row(const struct row *r, int32_t stride, bool left, bool right,
                                      const struct channel *channel, int8_t *out, int32_t width)
{
    for (int32_t x = 0; x < width;) {
        x = x > width - TILE ? width - TILE : x; /* may overlap the tile before */
        const bool first = left && x == 0;
        const bool last = right && x == width - TILE;
        const int32_t inner = first || r->kernel_rows < 3 ? 0 : width - x - (right ? TILE : 0);
        if (inner >= TILE) {
            depthwise_inner(r, stride, x, channel, out + x, inner, 1);
            x += inner;
            continue;
        }
        uint32_t sums[TILE];
        depthwise_tile(r, stride, r->in + stride * x, first, last, sums);
        finish(channel, sums, TILE, out + x, 1);
        x += TILE;
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
    /* Rows whose windows lie inside the input; or all but their last column, where the byte that is
     * read instead, the first of the row below, exists. */
    int32_t whole = 0;
    if (pad_left == 0 && p->pad_top == 0) {
        whole = (p->in_h - 3 - (beyond > 0) + stride) / stride;
        whole = whole < 0 ? 0 : whole > p->out_h ? p->out_h : whole;
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
        row.kernel = kernel;
        row.kernel_rows = 3;
        row.in = in;
        row.start =
            start_sum(&channel) - zero_offset(p, weight_sums[0] + weight_sums[1] + weight_sums[2]);
        depthwise_inner(&row, stride, 0, &channel, out, p->out_w, whole);
        if (beyond > 0) {
            last_column(&row, stride, &channel, out, p->out_w, whole);
        }
        out += whole * p->out_w;
        ctx->macs += (uint32_t)(9 * whole * p->out_w);
        for (int32_t y = whole; y < p->out_h; y++, out += p->out_w) {
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
