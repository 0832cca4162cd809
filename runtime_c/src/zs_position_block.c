/*
 * zs_position_block.c - two-level bitmask: a bit per block of columns, then the
 * block's bits unless all are zero. SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_BLOCK

unsigned zs_block_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const struct zs_weights *w = d->weights;
    const uint32_t block = 1u << w->block_bits;
    const uint32_t end = w->positions_size * 8;
    unsigned n = 0;
    while (n < max && d->col < w->cols && d->position_bit < end) {
        if ((d->col & (block - 1)) == 0 && !d->pending) {
            d->pending = zs_bits_take(w->positions, &d->position_bit, 1) != 0;
            if (!d->pending) {
                d->col += block;
            }
            continue;
        }
        if (zs_bits_take(w->positions, &d->position_bit, 1) != 0) {
            cols[n++] = (uint16_t)d->col;
        }
        d->col++;
        d->pending = (d->col & (block - 1)) != 0;
    }
    d->left -= n;
    d->row_done = d->col >= w->cols || d->position_bit >= end;
    return n;
}

#endif
