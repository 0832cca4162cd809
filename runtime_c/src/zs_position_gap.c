/*
 * zs_position_gap.c - Huffman-coded runs of zeros between elements (Deep
 * Compression, Han et al. 2016, section 4). SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_GAP

unsigned zs_gap_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const struct zs_weights *w = d->weights;
    const uint32_t end = w->positions_size * 8;
    unsigned n = 0;
    while (n < max) {
        while (!d->pending && d->left > 0 && d->position_bit < end) {
            const uint32_t rank = zs_huffman_next(&w->gap_code, w->positions, &d->position_bit);
            d->col += w->gaps[rank];
            d->pending = w->gaps[rank] != w->gap_escape;
        }
        if (!d->pending || d->col >= w->cols) {
            break;
        }
        cols[n++] = (uint16_t)d->col++;
        d->pending = false;
        d->left--;
    }
    d->row_done = n < max;
    return n;
}

#endif
