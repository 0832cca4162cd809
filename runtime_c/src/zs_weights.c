/* zs_weights.c - weight records, see FORMAT.md section 2. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

/* Bytes of a bit stream. */
static uint32_t byte_count(uint32_t bits)
{
    return bits / 8 + (bits % 8 != 0);
}

static void read_huffman(struct zs_reader *r, struct zs_weights *w)
{
    uint32_t code = 0;
    uint32_t symbols = 0;
    w->max_length = zs_reader_u8(r);
    if (w->max_length < 1 || w->max_length > ZS_MAX_CODE_LENGTH) {
        zs_reader_fail(r);
        return;
    }
    for (unsigned length = 1; length <= w->max_length; length++) {
        const uint32_t count = zs_reader_var(r);
        code <<= 1;
        w->rank[length] = (int32_t)symbols - (int32_t)code;
        if (count > (1u << length) - code) {
            zs_reader_fail(r); /* over-full */
            return;
        }
        code += count;
        symbols += count;
        w->limit[length] = code << (16 - length);
    }
    if (code != 1u << w->max_length || symbols != w->codebook_count || symbols < 2) {
        zs_reader_fail(r); /* incomplete */
    }
}

static void read_codebook(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_weights *w)
{
    w->codebook_count = zs_reader_var(r);
    const uint32_t offset = zs_reader_var(r);
    if (w->codebook_count < 1 || w->codebook_count > 256) {
        zs_reader_fail(r);
        return;
    }
    w->codebook = zs_data(ctx, r, offset, w->codebook_count * (w->is_float ? 4u : 1u));
    if (w->value_codec == ZS_VALUE_HUFFMAN) {
        read_huffman(r, w);
        return;
    }
    w->index_bits = zs_reader_u8(r);
    if (w->index_bits < 1 || w->index_bits > 8 || w->codebook_count > 1u << w->index_bits) {
        zs_reader_fail(r);
    }
}

static void read_directory(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_weights *w)
{
    uint32_t bits = 0;
    for (unsigned i = 0; i < 3; i++) {
        w->directory_bits[i] = zs_reader_u8(r);
        if (w->directory_bits[i] > 24) {
            zs_reader_fail(r);
            return;
        }
        bits += w->directory_bits[i];
    }
    w->directory = zs_data(ctx, r, zs_reader_var(r), byte_count(bits * w->rows));
}

void zs_weights_read(const struct zs_ctx *ctx, struct zs_reader *r, bool is_float,
                     struct zs_weights *w)
{
    *w = (struct zs_weights){ .is_float = is_float };
    const uint8_t codec = zs_reader_u8(r);
    const uint8_t flags = zs_reader_u8(r);
    w->position_codec = codec & 15u;
    w->value_codec = codec >> 4;
    w->by_columns = (flags & 1) != 0;
    w->zero_point = zs_reader_svar(r);
    w->rows = zs_reader_var(r);
    w->cols = zs_reader_var(r);
    w->count = zs_reader_var(r);
    w->max_row = zs_reader_var(r);
    if (flags > 1 || w->rows < 1 || w->rows > ZS_MAX_DIM || w->cols < 1 || w->cols > ZS_MAX_DIM
        || w->max_row > w->cols || w->zero_point < -128 || w->zero_point > 127
        || (is_float && w->zero_point != 0)) {
        zs_reader_fail(r);
    }
    if (w->position_codec != ZS_POSITION_DENSE) {
        const uint32_t offset = zs_reader_var(r);
        w->positions_size = zs_reader_var(r);
        w->positions = zs_data(ctx, r, offset, w->positions_size);
    }
    const uint32_t offset = zs_reader_var(r);
    w->values_size = zs_reader_var(r);
    w->values = zs_data(ctx, r, offset, w->values_size);
    if (w->value_codec != ZS_VALUE_RAW) {
        read_codebook(ctx, r, w);
    }
    if (w->by_columns) {
        read_directory(ctx, r, w);
    }
    if (!zs_reader_ok(r)) {
        w->count = 0;
        w->rows = 0;
    }
}

void zs_decoder_start(struct zs_decoder *d, const struct zs_weights *weights)
{
    *d = (struct zs_decoder){ .weights = weights, .left = weights->count };
}

void zs_decoder_row(struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    d->row++;
    d->row_done = false;
    if (w->by_columns) {
        d->position_bit = d->position_end;
        d->value_bit = d->value_end;
        d->pending = false;
        d->col = 0;
        const uint32_t elements =
            zs_bits_take(w->directory, &d->directory_bit, w->directory_bits[0]);
        const uint32_t runs = zs_bits_take(w->directory, &d->directory_bit, w->directory_bits[1]);
        const uint32_t bits = zs_bits_take(w->directory, &d->directory_bit, w->directory_bits[2]);
        d->left = elements;
        d->position_end += w->position_codec == ZS_POSITION_BITMASK ? w->cols : 4 * runs;
        d->value_end += w->value_codec == ZS_VALUE_HUFFMAN  ? bits
                        : w->value_codec == ZS_VALUE_PACKED ? elements * w->index_bits
                                                            : elements * (w->is_float ? 32u : 8u);
    } else if (w->position_codec == ZS_POSITION_GAP4) {
        d->col -= d->row > 1 ? w->cols : 0; /* the run to the next element crosses rows */
    } else {
        d->position_bit = (d->row - 1) * w->cols;
        d->col = 0;
    }
}

/* Drop the zeros among n dense elements. */
static unsigned squeeze(const struct zs_weights *w, uint16_t *cols, void *weights, unsigned n)
{
    unsigned kept = 0;
#if ZS_FLOAT32_KERNELS
    if (w->is_float) {
        float *values = weights;
        for (unsigned i = 0; i < n; i++) {
            if (values[i] < 0.0f || values[i] > 0.0f) {
                cols[kept] = cols[i];
                values[kept++] = values[i];
            }
        }
        return kept;
    }
#else
    (void)w;
#endif
    int16_t *values = weights;
    for (unsigned i = 0; i < n; i++) {
        if (values[i] != 0) {
            cols[kept] = cols[i];
            values[kept++] = values[i];
        }
    }
    return kept;
}

unsigned zs_decoder_positions(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    switch (d->weights->position_codec) {
#if ZS_CODEC_BITMASK
    case ZS_POSITION_BITMASK: return zs_bitmask_take(d, cols, max);
#endif
#if ZS_CODEC_GAP4
    case ZS_POSITION_GAP4: return zs_gap4_take(d, cols, max);
#endif
    default: return zs_dense_take(d, cols, max);
    }
}

void zs_decoder_values(struct zs_decoder *d, void *weights, unsigned n)
{
    switch (d->weights->value_codec) {
#if ZS_CODEC_PACKED
    case ZS_VALUE_PACKED: zs_packed_take(d, weights, n); break;
#endif
#if ZS_CODEC_HUFFMAN
    case ZS_VALUE_HUFFMAN: zs_huffman_take(d, weights, n); break;
#endif
    default: zs_raw_take(d, weights, n); break;
    }
}

unsigned zs_decoder_take(struct zs_decoder *d, uint16_t *cols, void *weights, unsigned max)
{
    const unsigned n = zs_decoder_positions(d, cols, max);
    zs_decoder_values(d, weights, n);
    return d->weights->position_codec == ZS_POSITION_DENSE ? squeeze(d->weights, cols, weights, n)
                                                           : n;
}

/* What this build lacks, or what no version defines. */
static enum zs_status check_codecs(const struct zs_weights *w)
{
    if (w->position_codec > ZS_POSITION_GAP4 || w->value_codec > ZS_VALUE_HUFFMAN) {
        return ZS_ERR_UNSUP;
    }
    if ((!ZS_CODEC_BITMASK && w->position_codec == ZS_POSITION_BITMASK)
        || (!ZS_CODEC_GAP4 && w->position_codec == ZS_POSITION_GAP4)
        || (!ZS_CODEC_PACKED && w->value_codec == ZS_VALUE_PACKED)
        || (!ZS_CODEC_HUFFMAN && w->value_codec == ZS_VALUE_HUFFMAN)) {
        return ZS_ERR_UNSUP;
    }
    return ZS_OK;
}

/* Sizes that follow from the counts, so that cursors below stay in their streams. */
static bool check_sizes(const struct zs_weights *w)
{
    const uint64_t elements = (uint64_t)w->rows * w->cols;
    if (elements > UINT32_MAX / 32 || w->count > elements) {
        return false;
    }
    if (w->position_codec == ZS_POSITION_DENSE && w->count != elements) {
        return false;
    }
    if (w->position_codec == ZS_POSITION_BITMASK
        && w->positions_size != byte_count((uint32_t)elements)) {
        return false;
    }
    if (w->positions_size > UINT32_MAX / 16 || w->values_size > UINT32_MAX / 16) {
        return false;
    }
    if (w->value_codec == ZS_VALUE_RAW && w->values_size != w->count * (w->is_float ? 4u : 1u)) {
        return false;
    }
    return w->value_codec != ZS_VALUE_PACKED
           || w->values_size == byte_count(w->count * w->index_bits);
}

/* Whether the next value can be read and is one. */
static bool value_is_there(const struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    const uint32_t end = w->values_size * 8;
    if (w->value_codec != ZS_VALUE_PACKED) {
        return d->value_bit < end;
    }
    return d->value_bit + w->index_bits <= end
           && zs_bits_peek(w->values, d->value_bit) >> (32 - w->index_bits) < w->codebook_count;
}

/* Decode the row just begun. Returns the number of its elements, or UINT32_MAX. */
static uint32_t check_row(struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    uint32_t stored = 0;
    if (w->by_columns
        && (d->value_end > w->values_size * 8
            || (w->position_codec != ZS_POSITION_DENSE
                && d->position_end > w->positions_size * 8))) {
        return UINT32_MAX;
    }
    do { /* one element at a time: a bad stream is left at most 15 bits behind */
        uint16_t col;
        float value; /* large enough for either type */
        if (zs_decoder_positions(d, &col, 1) != 0) {
            if (!value_is_there(d)) {
                return UINT32_MAX;
            }
            zs_decoder_values(d, &value, 1);
            stored++;
        }
    } while (!d->row_done);
    if (w->by_columns
        && (d->left != 0 || d->value_bit != d->value_end
            || (w->position_codec == ZS_POSITION_GAP4 && d->position_bit != d->position_end))) {
        return UINT32_MAX;
    }
    return stored > w->max_row ? UINT32_MAX : stored;
}

enum zs_status zs_weights_check(const struct zs_weights *w)
{
    const enum zs_status status = check_codecs(w);
    if (status != ZS_OK) {
        return status;
    }
    if (!check_sizes(w)) {
        return ZS_ERR_FORMAT;
    }
    uint32_t total = 0;
    struct zs_decoder d;
    zs_decoder_start(&d, w);
    for (uint32_t row = 0; row < w->rows; row++) {
        zs_decoder_row(&d);
        const uint32_t stored = check_row(&d);
        if (stored == UINT32_MAX) {
            return ZS_ERR_FORMAT;
        }
        total += stored;
    }
    if (total != w->count || byte_count(d.value_bit) != w->values_size) {
        return ZS_ERR_FORMAT;
    }
    if (w->position_codec == ZS_POSITION_GAP4 && byte_count(d.position_bit) != w->positions_size) {
        return ZS_ERR_FORMAT;
    }
    return ZS_OK;
}
