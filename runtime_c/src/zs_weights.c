/* zs_weights.c - weight records, see FORMAT.md section 2. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

/* Bytes of a bit stream. */
static uint32_t byte_count(uint32_t bits)
{
    return bits / 8 + (bits % 8 != 0);
}

/* Bytes of a value that is stored as it is. */
static uint32_t value_size(const struct zs_weights *w)
{
    return zs_weights_are_float(w) ? 4 : 1;
}

/* Codes of each length for `count` symbols. */
static void read_huffman(struct zs_reader *r, uint32_t count, struct zs_huffman *huffman)
{
    uint32_t code = 0;
    uint32_t symbols = 0;
    const unsigned max_length = zs_reader_u8(r);
    if (max_length < 1 || max_length > ZS_MAX_CODE_LENGTH) {
        zs_reader_fail(r);
        return;
    }
    for (unsigned length = 1; length <= max_length; length++) {
        const uint32_t codes = zs_reader_var(r);
        code <<= 1;
        huffman->rank[length] = (int16_t)((int32_t)symbols - (int32_t)code);
        if (codes > (1u << length) - code) {
            zs_reader_fail(r); /* over-full */
            return;
        }
        code += codes;
        symbols += codes;
        huffman->limit[length] = (uint16_t)(code << (ZS_MAX_CODE_LENGTH - length));
    }
    if (code != 1u << max_length || symbols != count || symbols < 2) {
        zs_reader_fail(r); /* incomplete */
    }
}

/* The length of an ANS segment; 0 stands for no end, which is no less than there can be. */
static uint32_t read_segment(struct zs_reader *r)
{
    const uint32_t segment = zs_reader_var(r);
    return segment == 0 ? UINT32_MAX : segment;
}

/* A number from 1 to `most` in at most 2 bytes. */
static uint32_t read_short(struct zs_reader *r, uint32_t most)
{
    const size_t left = r->left;
    const uint32_t value = zs_reader_var(r);
    if (value < 1 || value > most || left - r->left > 2) {
        zs_reader_fail(r);
    }
    return value;
}

/* Frequency classes and codebook, left where they are in data. */
static void read_ans_table(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_weights *w)
{
    const uint32_t offset = zs_reader_var(r);
    w->ans.segment = read_segment(r);
    const uint8_t *table = zs_data(ctx, r, offset, 0);
    if (table == NULL) {
        return;
    }
    struct zs_reader t = { .next = table, .left = ctx->model->data_size - offset };
    w->ans.count = zs_reader_u8(&t) + 1u;
    w->ans.delta_bits = zs_reader_u8(&t);
    w->ans.classes = t.next;
    uint32_t values = 0;
    uint32_t slots = 0;
    for (unsigned i = 0; i < w->ans.count; i++) {
        const uint32_t n = read_short(&t, 256);
        values += n;
        slots += n * read_short(&t, ZS_ANS_SUM);
    }
    w->codebook = t.next;
    const uint32_t size =
        w->ans.delta_bits != 0
            ? byte_count(8 * w->ans.count + (values - w->ans.count) * w->ans.delta_bits)
            : values * value_size(w);
    if (!zs_reader_ok(&t) || size > t.left || values > 256 || slots != ZS_ANS_SUM
        || w->ans.delta_bits > (zs_weights_are_float(w) ? 0u : 7u)) {
        zs_reader_fail(r);
    }
}

static void read_codebook(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_weights *w)
{
    if (zs_values_are(w, ZS_VALUE_ANS)) {
        read_ans_table(ctx, r, w);
        return;
    }
    w->codebook_count = zs_reader_var(r);
    const uint32_t offset = zs_reader_var(r);
    if (w->codebook_count < 1 || w->codebook_count > 256) {
        zs_reader_fail(r);
        return;
    }
    w->codebook = zs_data(ctx, r, offset, w->codebook_count * value_size(w));
    if (zs_values_are(w, ZS_VALUE_HUFFMAN)) {
        read_huffman(r, w->codebook_count, &w->huffman);
    } else {
        w->index_bits = zs_reader_u8(r);
        if (w->index_bits < 1 || w->index_bits > 8 || w->codebook_count > 1u << w->index_bits) {
            zs_reader_fail(r);
        }
    }
}

static void read_ans_mask(struct zs_reader *r, struct zs_weights *w)
{
    const unsigned classes = zs_reader_u8(r);
    struct zs_ans_mask *mask = &w->ans_mask;
    mask->row_classes = (classes & 15u) + 1;
    mask->col_classes = (classes >> 4) + 1;
    mask->map_bits = mask->col_classes > 2 ? 2 : mask->col_classes - 1;
    mask->segment = read_segment(r);
    const uint32_t table = 2 * (mask->row_classes - 1 + mask->row_classes * mask->col_classes);
    const uint32_t size = table + byte_count(mask->map_bits * w->cols);
    if (!zs_reader_ok(r) || mask->row_classes > 4 || mask->col_classes > 4
        || size > w->positions_size) {
        zs_reader_fail(r);
        return;
    }
    mask->map = w->positions + table;
    mask->start_bit = 8 * size;
}

/* What a position codec needs beside its stream. */
static void read_position_table(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_weights *w)
{
    if (zs_positions_are(w, ZS_POSITION_BLOCK)) {
        w->block_bits = zs_reader_u8(r);
        if (w->block_bits < 1 || w->block_bits > 8) {
            zs_reader_fail(r);
        }
    } else if (zs_positions_are(w, ZS_POSITION_GAP)) {
        const uint32_t count = zs_reader_var(r);
        w->gap_escape = zs_reader_u8(r);
        const uint32_t offset = zs_reader_var(r);
        if (count > 256 || w->gap_escape < 1) {
            zs_reader_fail(r);
            return;
        }
        w->gaps = zs_data(ctx, r, offset, count);
        read_huffman(r, count, &w->gap_code);
    } else if (zs_positions_are(w, ZS_POSITION_ANS)) {
        read_ans_mask(r, w);
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

ZS_COLD void zs_weights_read(const struct zs_ctx *ctx, struct zs_reader *r, bool is_float,
                             struct zs_weights *w)
{
    *w = (struct zs_weights){ .is_float = is_float };
    const uint8_t codec = zs_reader_u8(r);
    const uint8_t flags = zs_reader_u8(r);
    w->position_codec = codec & 15u;
    w->value_codec = codec >> 4;
    if ((ZS_POSITIONS >> w->position_codec & 1) == 0 || (ZS_VALUES >> w->value_codec & 1) == 0) {
        w->refused = true;
        return;
    }
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
    if (!zs_positions_are(w, ZS_POSITION_DENSE)) {
        const uint32_t offset = zs_reader_var(r);
        w->positions_size = zs_reader_var(r);
        w->positions = zs_data(ctx, r, offset, w->positions_size);
        read_position_table(ctx, r, w);
    }
    const uint32_t offset = zs_reader_var(r);
    w->values_size = zs_reader_var(r);
    w->values = zs_data(ctx, r, offset, w->values_size);
    if (!zs_values_are(w, ZS_VALUE_RAW)) {
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
    memset(d, 0, offsetof(struct zs_decoder, row_done) + sizeof d->row_done);
    d->weights = weights;
    d->left = weights->count;
#if ZS_CODEC_GAP
    if (zs_positions_are(weights, ZS_POSITION_GAP)) {
        zs_gap_start(d);
    }
#endif
#if ZS_CODEC_HUFFMAN
    if (zs_values_are(weights, ZS_VALUE_HUFFMAN)) {
        zs_huffman_start(d);
    }
#endif
    d->position_bit = weights->ans_mask.start_bit;
    d->position_state = ZS_ANS_START; /* as after a segment; the first is loaded when it is due */
    d->value_state = ZS_ANS_START;
}

void zs_decoder_row(struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    while (!w->by_columns && d->row > 0 && !d->row_done) {
        uint16_t col; /* the caller had room for all elements, but not for the end of the row */
        (void)zs_decoder_positions(d, &col, 1);
    }
    d->row++;
    d->row_done = false;
    if (w->by_columns) {
        d->position_bit = d->position_end;
        d->value_bit = d->value_end;
        d->pending = false;
        d->col = 0;
        const uint32_t elements =
            zs_bits_take(w->directory, &d->directory_bit, w->directory_bits[0]);
        const uint32_t units = zs_bits_take(w->directory, &d->directory_bit, w->directory_bits[1]);
        const uint32_t bits = zs_bits_take(w->directory, &d->directory_bit, w->directory_bits[2]);
        d->left = elements;
        d->position_end += zs_positions_are(w, ZS_POSITION_BITMASK) ? w->cols
                           : zs_positions_are(w, ZS_POSITION_GAP4)  ? 4 * units
                                                                    : units;
        d->value_end += zs_values_are(w, ZS_VALUE_HUFFMAN)  ? bits
                        : zs_values_are(w, ZS_VALUE_PACKED) ? elements * w->index_bits
                                                            : elements * 8 * value_size(w);
    } else if (zs_positions_are(w, ZS_POSITION_GAP4) || zs_positions_are(w, ZS_POSITION_GAP)) {
        d->col -= d->row > 1 ? w->cols : 0; /* the run to the next element crosses rows */
    } else {
        d->pending = false;
        d->col = 0;
    }
}

/* Drop the zeros among n dense elements. */
static unsigned squeeze(const struct zs_weights *w, uint16_t *cols, void *weights, unsigned n)
{
    unsigned kept = 0;
#if ZS_FLOAT32_KERNELS
    if (zs_weights_are_float(w)) {
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
#if ZS_CODEC_BLOCK
    case ZS_POSITION_BLOCK: return zs_block_take(d, cols, max);
#endif
#if ZS_CODEC_GAP
    case ZS_POSITION_GAP: return zs_gap_take(d, cols, max);
#endif
#if ZS_CODEC_ANS
    case ZS_POSITION_ANS: return zs_ans_mask_take(d, cols, max);
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
#if ZS_CODEC_ANS
    case ZS_VALUE_ANS: zs_ans_take(d, weights, n); break;
#endif
    default: zs_raw_take(d, weights, n); break;
    }
}

unsigned zs_decoder_take(struct zs_decoder *d, uint16_t *cols, void *weights, unsigned max)
{
    const unsigned n = zs_decoder_positions(d, cols, max);
    zs_decoder_values(d, weights, n);
    return zs_positions_are(d->weights, ZS_POSITION_DENSE) ? squeeze(d->weights, cols, weights, n)
                                                           : n;
}

/* Sizes that follow from the counts, so that cursors below stay in their streams. */
static bool check_sizes(const struct zs_weights *w)
{
    const uint64_t elements = (uint64_t)w->rows * w->cols;
    const bool ans_positions = zs_positions_are(w, ZS_POSITION_ANS);
    const bool ans_values = zs_values_are(w, ZS_VALUE_ANS);
    if (elements > ZS_MAX_ELEMENTS || w->count > elements) {
        return false;
    }
    if (zs_positions_are(w, ZS_POSITION_DENSE) && w->count != elements) {
        return false;
    }
    if (zs_positions_are(w, ZS_POSITION_BITMASK)
        && w->positions_size != byte_count((uint32_t)elements)) {
        return false;
    }
    if (w->positions_size > UINT32_MAX / 16 || w->values_size > UINT32_MAX / 16) {
        return false;
    }
    if ((ans_positions || ans_values) && w->by_columns) {
        return false;
    }
    if (zs_values_are(w, ZS_VALUE_RAW) && w->values_size != w->count * value_size(w)) {
        return false;
    }
    return !zs_values_are(w, ZS_VALUE_PACKED)
           || w->values_size == byte_count(w->count * w->index_bits);
}

/* Whether the next value can be read and is one. */
static bool value_is_there(const struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    const uint32_t end = w->values_size * 8;
    if (zs_values_are(w, ZS_VALUE_ANS)) {
        return d->value_left != 0 || d->value_state == ZS_ANS_START; /* each state is a symbol */
    }
    if (!zs_values_are(w, ZS_VALUE_PACKED)) {
        return d->value_bit < end;
    }
    return d->value_bit + w->index_bits <= end
           && zs_bits_peek(w->values, d->value_bit) >> (32 - w->index_bits) < w->codebook_count;
}

/* Decode the row just begun. Returns the number of its elements, or UINT32_MAX. */
static uint32_t check_row(struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    const bool dense = zs_positions_are(w, ZS_POSITION_DENSE);
    uint32_t stored = 0;
    if (w->by_columns
        && (d->value_end > w->values_size * 8
            || (!dense && d->position_end > w->positions_size * 8))) {
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
            || (!dense && d->position_bit != d->position_end))) {
        return UINT32_MAX;
    }
    return stored > w->max_row ? UINT32_MAX : stored;
}

/* Whether the streams were used up, no more and no less. */
static bool check_ends(const struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    if (d->position_state != ZS_ANS_START || d->value_state != ZS_ANS_START) {
        return false;
    }
    return byte_count(d->value_bit) == w->values_size
           && (zs_positions_are(w, ZS_POSITION_DENSE)
               || byte_count(d->position_bit) == w->positions_size);
}

ZS_COLD enum zs_status zs_weights_check(const struct zs_weights *w)
{
    if (!check_sizes(w)) {
        return ZS_ERR_FORMAT;
    }
#if ZS_CODEC_ANS
    if (zs_positions_are(w, ZS_POSITION_ANS) && !zs_ans_mask_check(w)) {
        return ZS_ERR_FORMAT;
    }
#endif
    uint32_t total = 0;
    struct zs_decoder d;
    zs_decoder_start(&d, w);
    for (uint32_t row = 0; row < w->rows; row++) {
        if (d.position_left == 0 && d.position_state != ZS_ANS_START) {
            return ZS_ERR_FORMAT; /* an ANS segment ends in another state */
        }
        zs_decoder_row(&d);
        const uint32_t stored = check_row(&d);
        if (stored == UINT32_MAX) {
            return ZS_ERR_FORMAT;
        }
        total += stored;
    }
    return total == w->count && check_ends(&d) ? ZS_OK : ZS_ERR_FORMAT;
}
