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
    uint32_t bit = d->position_bit;
    uint32_t col = d->col;
    bool inside = d->pending;
    unsigned n = 0;
    while (n < max && col < w->cols && bit < end) {
        const uint32_t window = zs_bits_peek(w->positions, bit);
        if (!inside) {
            const unsigned zeros = zs_leading_zeros(window | 1u << (32 - ZS_PEEK_BITS - 1));
            const uint32_t blocks = (w->cols - col + block - 1) >> w->block_bits;
            inside = zeros < blocks && zeros < ZS_PEEK_BITS;
            const uint32_t empty = zeros < blocks ? zeros : blocks;
            bit += empty + (inside ? 1 : 0);
            col += empty << w->block_bits;
            continue;
        }
        uint32_t left = block - (col & (block - 1)); /* columns of the block */
        left = left < w->cols - col ? left : w->cols - col;
        const unsigned width = left < ZS_PEEK_BITS ? (unsigned)left : ZS_PEEK_BITS;
        const uint32_t before = col;
        n += zs_mask_columns(window, width, &col, cols + n, max - n);
        bit += col - before;
        inside = (col & (block - 1)) != 0 && col < w->cols;
    }
    d->position_bit = bit;
    d->col = col;
    d->pending = inside;
    d->left -= n;
    d->row_done = col >= w->cols || bit >= end;
    return n;
}

#endif
