/*
 * zs_position_ans.c - a bitmask by asymmetric numeral systems with static
 * probabilities: a bit per row that says whether it has elements, then a bit per
 * element of those rows, columns without elements left out.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_ANS

/* The next bit; `zero` is the probability of 0 in 1/65536, 1 to 65535. */
static uint32_t next_bit(struct zs_decoder *d, uint32_t zero)
{
    const struct zs_weights *w = d->weights;
    const uint32_t bit = (d->position_state & 0xffffu) >= zero;
    d->position_state =
        zs_ans_advance(d->position_state, 16, bit != 0 ? zero : 0, bit != 0 ? 65536u - zero : zero,
                       w->positions, w->positions_size, &d->position_bit);
    return bit;
}

unsigned zs_ans_mask_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const struct zs_weights *w = d->weights;
    const struct zs_ans_mask *mask = &w->ans_mask;
    unsigned n = 0;
    if (!d->pending) { /* the start of a row */
        d->pending = true;
        if (next_bit(d, mask->row) == 0) {
            d->col = w->cols;
        }
    }
    for (; n < max && d->col < w->cols; d->col++) {
        const uint32_t col = d->col;
        const bool live = mask->live == NULL || (mask->live[col >> 3] << (col & 7) & 0x80) != 0;
        if (live && next_bit(d, mask->element) != 0) {
            cols[n++] = (uint16_t)col;
        }
    }
    d->left -= n;
    d->row_done = d->col >= w->cols;
    return n;
}

#endif
