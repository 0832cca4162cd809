/*
 * zs_weights.h - compressed weight matrices and their decoder, internal.
 *
 * A decoder walks the stored rows in order; within a row it hands out the
 * non-zero elements in chunks, so that nothing ever holds more than a row.
 *
 *     zs_decoder_start(&d, &weights);
 *     for each row:
 *         zs_decoder_row(&d);              row skipped if nothing is taken (by columns only)
 *         do {
 *             n = zs_decoder_take(&d, cols, values, capacity);
 *         } while (!d.row_done);
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_WEIGHTS_H
#define ZS_WEIGHTS_H

#include "zs_huffman.h"
#include "zs_internal.h"

enum zs_position_codec {
    ZS_POSITION_DENSE = 0,
    ZS_POSITION_BITMASK = 1,
    ZS_POSITION_GAP4 = 2,
    ZS_POSITION_BLOCK = 3,
    ZS_POSITION_GAP = 4,
    ZS_POSITION_ANS = 5
};
enum zs_value_codec {
    ZS_VALUE_RAW = 0,
    ZS_VALUE_PACKED = 1,
    ZS_VALUE_HUFFMAN = 2,
    ZS_VALUE_ANS = 3
};

/* Codecs of this build, a bit for each. */
#define ZS_POSITIONS                                                                               \
    (1u << ZS_POSITION_DENSE | (uint32_t)ZS_CODEC_BITMASK << ZS_POSITION_BITMASK                   \
     | (uint32_t)ZS_CODEC_GAP4 << ZS_POSITION_GAP4 | (uint32_t)ZS_CODEC_BLOCK << ZS_POSITION_BLOCK \
     | (uint32_t)ZS_CODEC_GAP << ZS_POSITION_GAP | (uint32_t)ZS_CODEC_ANS << ZS_POSITION_ANS)
#define ZS_VALUES                                                      \
    (1u << ZS_VALUE_RAW | (uint32_t)ZS_CODEC_PACKED << ZS_VALUE_PACKED \
     | (uint32_t)ZS_CODEC_HUFFMAN << ZS_VALUE_HUFFMAN | (uint32_t)ZS_CODEC_ANS << ZS_VALUE_ANS)

#define ZS_ANS_BITS 12
#define ZS_ANS_SUM (1u << ZS_ANS_BITS)
#define ZS_ANS_START (1u << 16) /* the state before the first symbol was encoded */

/* Positions by asymmetric numeral systems. In the stream stand u16s, where the slots of row
 * classes 1, 2 ... start and the probability of 0 of each row class and column class in 1/65536
 * (0: nothing is stored), then the map of column classes, then the segments. */
struct zs_ans_mask {
    unsigned row_classes, col_classes; /* 1 to 4 */
    unsigned map_bits;                 /* of a column's class */
    const uint8_t *map;
    uint32_t start_bit; /* of the segments */
    uint32_t segment;   /* rows in one */
};

/* Values by asymmetric numeral systems: classes of values of one frequency. */
struct zs_ans_table {
    const uint8_t *classes; /* two vars of at most 2 bytes each: values, frequency of each */
    unsigned count;
    unsigned delta_bits; /* of a difference in the codebook; 0: values as they are */
    uint32_t segment;    /* values in one */
};

struct zs_weights {
    unsigned position_codec;
    unsigned value_codec;
    bool refused; /* this build lacks a codec; nothing else was read */
    bool is_float;
    bool by_columns;
    int32_t zero_point;
    uint32_t rows, cols;
    uint32_t count;   /* stored elements */
    uint32_t max_row; /* most stored elements of a row */
    const uint8_t *positions;
    const uint8_t *values;
    uint32_t positions_size, values_size;
    const uint8_t *codebook;
    uint32_t codebook_count;
    unsigned index_bits;         /* packed */
    struct zs_huffman huffman;   /* huffman */
    struct zs_ans_table ans;     /* ans */
    unsigned block_bits;         /* block: log2 of a block's columns */
    struct zs_huffman gap_code;  /* gap */
    const uint8_t *gaps;         /* gap: run of zeros by rank of its code */
    uint32_t gap_escape;         /* gap: the run that stores no element */
    struct zs_ans_mask ans_mask; /* ans */
    const uint8_t *directory;
    unsigned directory_bits[3]; /* elements, position units, huffman bits */
};

/* Questions about weights that were not refused; a build with one codec need not ask. */
static inline bool zs_positions_are(const struct zs_weights *w, enum zs_position_codec codec)
{
    const uint32_t bit = 1u << codec;
    return (ZS_POSITIONS & bit) != 0 && (ZS_POSITIONS == bit || w->position_codec == codec);
}

static inline bool zs_values_are(const struct zs_weights *w, enum zs_value_codec codec)
{
    const uint32_t bit = 1u << codec;
    return (ZS_VALUES & bit) != 0 && (ZS_VALUES == bit || w->value_codec == codec);
}

static inline bool zs_weights_are_float(const struct zs_weights *w)
{
    return ZS_FLOAT32_KERNELS && w->is_float;
}

/* log2 of a table's entries, of two bytes, on the stack. A peek holds 4 codes of the gaps' table
 * and one more code of any length behind one of the values' table. */
#define ZS_GAP_TABLE_BITS 6
#define ZS_VALUE_TABLE_BITS (ZS_DSP ? 9 : 7)

struct zs_decoder {
    const struct zs_weights *weights;
    uint32_t position_bit, value_bit; /* cursors in the streams */
    uint32_t position_end, value_end; /* by columns: where the next row starts */
    uint32_t directory_bit;
    uint32_t position_state, value_state; /* ans */
    uint32_t position_left, value_left;   /* ans: rows, values left in the segment */
    const uint8_t *row_zeros;             /* ans: probabilities of the row's class */
    uint32_t row;                         /* current row + 1 */
    uint32_t col;  /* next column; gaps: may be relative to a later row, modulo 2^32 */
    uint32_t left; /* stored elements left: in all, by columns in this row */
    bool pending;  /* gaps: col is that of an element already read; block: inside a block */
    bool row_done;
    /* Tables of zs_huffman.h, for gap and huffman; undefined with other codecs. */
#if ZS_CODEC_GAP
    uint16_t gap_table[1u << ZS_GAP_TABLE_BITS];
#endif
#if ZS_CODEC_HUFFMAN
    uint16_t value_table[1u << ZS_VALUE_TABLE_BITS];
#endif
};

/* Parse a weight record; weights->count is 0 if the reader failed. */
void zs_weights_read(const struct zs_ctx *ctx, struct zs_reader *r, bool is_float,
                     struct zs_weights *weights);

/* Decode everything once and compare with what the record promises. */
enum zs_status zs_weights_check(const struct zs_weights *weights);

void zs_decoder_start(struct zs_decoder *d, const struct zs_weights *weights);
void zs_decoder_row(struct zs_decoder *d);

/*
 * The next elements of the current row, at most `max`: their columns, and the
 * weights with the zero point subtracted (int16_t, or float). Returns how many.
 */
unsigned zs_decoder_take(struct zs_decoder *d, uint16_t *cols, void *weights, unsigned max);

/*
 * Add all columns of a matrix that is stored by columns to `sums`, each times
 * its input less `zero`, without a decoder. Returns false if its codecs are not
 * among those that can be, and nothing was done.
 */
bool zs_add_columns_s8(struct zs_ctx *ctx, const struct zs_weights *weights, const int8_t *in,
                       int32_t zero, uint32_t *sums);

/* The two halves of it, for zs_weights_check(); zeros are not dropped. */
unsigned zs_decoder_positions(struct zs_decoder *d, uint16_t *cols, unsigned max);
void zs_decoder_values(struct zs_decoder *d, void *weights, unsigned n);

/* Fill the tables of a decoder that was just begun. */
void zs_gap_start(struct zs_decoder *d);
void zs_huffman_start(struct zs_decoder *d);

/* One file per codec. Positions give columns and return how many; values follow suit. */
unsigned zs_dense_take(struct zs_decoder *d, uint16_t *cols, unsigned max);
unsigned zs_bitmask_take(struct zs_decoder *d, uint16_t *cols, unsigned max);
unsigned zs_gap4_take(struct zs_decoder *d, uint16_t *cols, unsigned max);
unsigned zs_block_take(struct zs_decoder *d, uint16_t *cols, unsigned max);
unsigned zs_gap_take(struct zs_decoder *d, uint16_t *cols, unsigned max);
unsigned zs_ans_mask_take(struct zs_decoder *d, uint16_t *cols, unsigned max);
void zs_raw_take(struct zs_decoder *d, void *weights, unsigned n);
void zs_packed_take(struct zs_decoder *d, void *weights, unsigned n);
void zs_huffman_take(struct zs_decoder *d, void *weights, unsigned n);
void zs_ans_take(struct zs_decoder *d, void *weights, unsigned n);

/* Whether thresholds ascend and no column's class is out of range. */
bool zs_ans_mask_check(const struct zs_weights *w);

/* Element `index` of a table of values, as weights[i] of zs_decoder_take(). */
static inline void zs_weight_store(const struct zs_weights *w, const uint8_t *table, uint32_t index,
                                   void *weights, unsigned i)
{
#if ZS_FLOAT32_KERNELS
    if (w->is_float) {
        ((float *)weights)[i] = zs_load_f32(table + 4 * index);
        return;
    }
#endif
    ((int16_t *)weights)[i] = (int16_t)((int8_t)table[index] - w->zero_point);
}

/*
 * Asymmetric numeral systems (Duda 2013), 32-bit state in [2^16, 2^32), 16-bit
 * words. After a symbol that takes [start, start + frequency) of the 2^bits
 * slots, the state becomes the returned one. Past the stream's end come zeros.
 */
static inline uint32_t zs_ans_advance(uint32_t state, unsigned bits, uint32_t start,
                                      uint32_t frequency, const uint8_t *stream, uint32_t size,
                                      uint32_t *bit)
{
    const uint32_t slot = state & ((1u << bits) - 1u);
    state = frequency * (state >> bits) + slot - start;
    if (state < 1u << 16) {
        const uint32_t at = *bit >> 3;
        state = state << 16 | (at + 2 <= size ? zs_load_u16(stream + at) : 0u);
        *bit += 16;
    }
    return state;
}

/* The state that a segment starts with. */
static inline uint32_t zs_ans_load(const uint8_t *stream, uint32_t size, uint32_t *bit)
{
    const uint32_t at = *bit >> 3;
    *bit += 32;
    return at + 4 <= size ? zs_load_u32(stream + at) : 0u;
}

#endif
