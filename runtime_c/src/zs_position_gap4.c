/*
 * zs_position_gap4.c - 4-bit runs of zeros between elements (EIE, Han et al.
 * 2016, section 3), with 15 as an escape that stores no element.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_GAP4

unsigned zs_gap4_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const uint8_t *runs = d->weights->positions;
    const uint32_t end = d->weights->positions_size * 8;
    const uint32_t row_end = d->weights->cols;
    const unsigned want = d->left < max ? (unsigned)d->left : max;
    uint32_t bit = d->position_bit;
    uint32_t col = d->col;
    uint32_t window = 0;
    unsigned units = 0; /* in the window */
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
        if (units == 0) {
            if (bit >= end) {
                break;
            }
            window = zs_bits_peek(runs, bit);
            units = ZS_PEEK_BITS / 4;
        }
        const uint32_t run = window >> 28;
        window <<= 4;
        bit += 4;
        units--;
        col += run;
        if (run != 15) {
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
