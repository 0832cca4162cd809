/*
 * zs_conv_dense_s8.h - convolutions whose weights are stored densely, with
 * stride 1 or 2 and no padding, two filters at a time: both have the same taps, so
 * that the list of offsets serves all filters and each load of activations two.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_DENSE_S8_H
#define ZS_CONV_DENSE_S8_H

#include "zs_conv_tile_dsp.h"

/* Offsets of all taps, from where a window starts. */
static void list_all(const struct zs_conv *p, struct taps_of_two *taps)
{
    const int32_t plane = p->in_h * p->in_w;
    int32_t *place = &taps->a;
    int32_t row = 0;
    uint32_t ky = 0;
    for (uint32_t i = 0; i < p->weights.cols;) {
        for (uint32_t kx = 0; kx < p->kernel_w; kx++, i++) {
            *place = row + (int32_t)(kx * p->dilation_x);
            taps += i & 1;
            place = (i & 1) == 0 ? &taps->b : &taps->a;
        }
        row += (int32_t)p->dilation_y * p->in_w;
        if (++ky == p->kernel_h) {
            ky = 0;
            row += plane - (int32_t)(p->kernel_h * p->dilation_y) * p->in_w;
        }
    }
    if (p->weights.cols % 2 != 0) {
        taps->b = taps->a; /* weighs 0 */
    }
}

/* The next filter's weights, two to a word, into the list. Returns their sum. */
static uint32_t list_weights(const struct zs_conv *p, struct zs_decoder *decoder, int16_t *buffer,
                             uint32_t *to)
{
    const uint32_t n = p->weights.cols;
    zs_decoder_row(decoder);
    zs_decoder_values(decoder, buffer, n);
    decoder->row_done = true; /* all of the row was taken */
    buffer[n] = 0;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i += 2, to += sizeof(struct taps_of_two) / sizeof *to) {
        uint32_t pair;
        memcpy(&pair, buffer + i, sizeof pair);
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(pair), "r"(0x10001u));
        *to = pair;
    }
    return sum;
}

/* A row of `width` pixels of two filters, `step` apart in the input. */
static ZS_NOINLINE void sweep_two(struct tiles_of_two *tiles, const struct channel *channels,
                                  const int8_t *in, int32_t step, int8_t *out, int8_t *out2,
                                  int32_t width)
{
    void (*const run)(const struct tiles_of_two *) =
        step == 1 ? zs_conv_tiles_of_two_filters : zs_conv_every_other_of_two_filters;
    uint32_t sums[2][BLOCK];
    while (width > 0) {
        /* The last block has one tile at least. */
        const int32_t n = width <= BLOCK ? width : width < BLOCK + TILE ? BLOCK - TILE : BLOCK;
        tiles->in = in;
        tiles->count = n / TILE;
        tiles->sums[0] = sums[0];
        tiles->sums[1] = sums[1];
        run(tiles);
        if (n % TILE != 0) { /* the last tile overlaps the one before */
            tiles->in = in + step * (n - TILE);
            tiles->count = 1;
            tiles->sums[0] = sums[0] + n - TILE;
            tiles->sums[1] = sums[1] + n - TILE;
            run(tiles);
        }
        finish(&channels[0], sums[0], n, out, 1);
        finish(&channels[1], sums[1], n, out2, 1);
        in += n * step;
        out += n;
        out2 += n;
        width -= n;
    }
}

/* Returns false if this is not such a convolution. */
static bool run_dense(struct zs_ctx *ctx, const struct zs_conv *p, const int8_t *in, int8_t *out)
{
    const uint32_t cols = p->weights.cols;
    const uint32_t pairs = (cols + 1) / 2;
    const int32_t group_in = p->channels / (int32_t)p->groups;
    const int32_t group_out = p->out_channels / (int32_t)p->groups;
    const int32_t area = p->out_h * p->out_w;
    if (!zs_positions_are(&p->weights, ZS_POSITION_DENSE) || p->stride_x > 2 || p->out_w < TILE
        || group_out < 2) {
        return false;
    }
    /* The scratch of FORMAT.md has room: 12 bytes for each of these 10. */
    struct taps_of_two *taps = (struct taps_of_two *)(void *)(ctx->arena + p->scratch);
    int16_t *buffer = (int16_t *)(void *)(taps + pairs);
    list_all(p, taps);

    struct zs_decoder decoder;
    zs_decoder_start(&decoder, &p->weights);
    uint32_t biases = 0;
    int32_t in_group = 0;
    for (int32_t oc = 0; oc < p->out_channels;) {
        struct channel channels[2];
        uint32_t start[2] = { 0, 0 };
        const int32_t n = group_out - in_group >= 2 ? 2 : 1;
        for (int32_t k = 0; k < n; k++) {
            channels[k] = read_channel(p, (uint32_t)(oc + k), &biases);
            const uint32_t sum = list_weights(p, &decoder, buffer, &taps->weights[k]);
            start[k] = start_sum(&channels[k]) - zero_offset(p, sum);
        }
        if (n == 1) {
            channels[1] = channels[0]; /* its outputs are those of the first, */
            start[1] = start[0];       /* written again */
            for (uint32_t i = 0; i < pairs; i++) {
                taps[i].weights[1] = taps[i].weights[0];
            }
        }
        int8_t *second = out + (n - 1) * area;
        struct tiles_of_two tiles = {
            .taps = taps,
            .end = taps + pairs,
            .start = { start[0], start[1] },
            .entry = p->stride_x == 1 ? TWO_FILTERS_ENTRY(pairs) : EVERY_OTHER_OF_TWO_ENTRY(pairs),
        };
        const int8_t *row = in;
        for (int32_t y = 0; y < p->out_h; y++, row += (int32_t)p->stride_y * p->in_w) {
            sweep_two(&tiles, channels, row, (int32_t)p->stride_x, out + y * p->out_w,
                      second + y * p->out_w, p->out_w);
        }
        ctx->macs += (uint32_t)n * cols * (uint32_t)area;
        out += n * area;
        oc += n;
        in_group += n;
        if (in_group == group_out) {
            in_group = 0;
            in += group_in * p->in_h * p->in_w;
        }
    }
    return true;
}

#endif
