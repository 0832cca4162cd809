/* zs_position_bitmask.c - one bit per element. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

#if ZS_CODEC_BITMASK

unsigned zs_bitmask_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const uint8_t *mask = d->weights->positions;
    const uint32_t end = d->weights->cols;
    uint32_t col = d->col;
    const uint32_t row = d->position_bit - col; /* where the row's bits start */
    unsigned n = 0;
    while (n < max && col < end) {
        const uint32_t left = end - col;
        const unsigned width = left < ZS_PEEK_BITS ? (unsigned)left : ZS_PEEK_BITS;
        n += zs_mask_columns(zs_bits_peek(mask, row + col), width, &col, cols + n, max - n);
    }
    d->row_done = col == end;
    d->col = col;
    d->position_bit = row + col;
    d->left -= n;
    return n;
}

#endif
