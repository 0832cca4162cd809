/*
 * zs_position_gap.c - Huffman-coded runs of zeros between elements (Deep
 * Compression, Han et al. 2016, section 4). SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_GAP

#define TABLE_SHIFT (32 - ZS_GAP_TABLE_BITS)

void zs_gap_start(struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    zs_huffman_fill(d->gap_table, ZS_GAP_TABLE_BITS, w->count, &w->gap_code, w->gaps, 0);
}

unsigned zs_gap_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const struct zs_weights *w = d->weights;
    const uint8_t *stream = w->positions;
    const uint32_t end = w->positions_size * 8;
    const uint32_t row_end = w->cols;
    const uint32_t escape = w->gap_escape;
    const unsigned want = d->left < max ? (unsigned)d->left : max;
    uint32_t bit = d->position_bit;
    uint32_t col = d->col;
    uint32_t window = 0;
    unsigned codes = 0; /* that the window surely holds, if they are short */
    unsigned n = 0;
    if (want > 0 && d->pending) {
        if (col >= row_end) {
            d->row_done = true;
            return 0;
        }
        cols[n++] = (uint16_t)col++;
    }
    bool pending = false;
    while (n < want) {
        if (codes == 0) {
            if (bit >= end) {
                break;
            }
            window = zs_bits_peek(stream, bit);
            codes = ZS_PEEK_BITS / ZS_GAP_TABLE_BITS;
        }
        codes--;
        const unsigned entry = d->gap_table[window >> TABLE_SHIFT];
        const unsigned length = entry & 255u;
        uint32_t run = entry >> 8;
        if (length == 0) {
            uint32_t next = bit;
            window = zs_bits_peek(stream, bit);
            run = w->gaps[zs_huffman_search(&w->gap_code, run, window, &next)];
            bit = next;
            codes = 0;
        }
        bit += length;
        window <<= length;
        col += run;
        if (run != escape) {
            if (col >= row_end) {
                pending = true;
                break;
            }
            cols[n++] = (uint16_t)col++;
        }
    }
    d->position_bit = bit;
    d->col = col;
    d->pending = pending;
    d->left -= n;
    d->row_done = n < max;
    return n;
}

#endif
