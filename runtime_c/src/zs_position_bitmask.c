/* zs_position_bitmask.c - one bit per element. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

#if ZS_CODEC_BITMASK

/* Zero bits before the first one, at most 25. */
static unsigned leading_zeros(uint32_t word)
{
    unsigned n = 0;
    if ((word & 0xffff0000u) == 0) {
        n = 16;
        word <<= 16;
    }
    if ((word & 0xff000000u) == 0) {
        n += 8;
        word <<= 8;
    }
    while (n < 25 && (word & 0x80000000u) == 0) {
        n++;
        word <<= 1;
    }
    return n;
}

unsigned zs_bitmask_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const uint32_t end = d->weights->cols;
    const uint8_t *mask = d->weights->positions;
    uint32_t col = d->col;
    uint32_t bit = d->position_bit;
    unsigned n = 0;
    while (n < max && col < end) {
        const unsigned zeros = leading_zeros(zs_bits_peek(mask, bit));
        col += zeros;
        bit += zeros;
        if (zeros < 25 && col < end) {
            cols[n++] = (uint16_t)col;
            col++;
            bit++;
        }
    }
    if (col > end) { /* the last zeros were those of the next row */
        bit -= col - end;
        col = end;
    }
    d->row_done = col == end;
    d->col = col;
    d->position_bit = bit;
    d->left -= n;
    return n;
}

#endif
