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
    unsigned n = 0;
    while (n < max) {
        while (!d->pending && d->left > 0 && d->position_bit < end) {
            const uint32_t byte = runs[d->position_bit >> 3];
            const uint32_t run = (d->position_bit & 4) != 0 ? byte & 15 : byte >> 4;
            d->position_bit += 4;
            d->col += run;
            d->pending = run < 15;
        }
        if (!d->pending || d->col >= d->weights->cols) {
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
