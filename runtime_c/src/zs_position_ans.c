/*
 * zs_position_ans.c - a bitmask by asymmetric numeral systems with static
 * probabilities: the class of each row, then a bit per element with the
 * probability of its row's and its column's class, pairs of classes without
 * elements left out. SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_ANS

/* Leave the symbol that takes slots start ... end - 1 of 65536. */
static void advance(struct zs_decoder *d, uint32_t start, uint32_t end)
{
    const struct zs_weights *w = d->weights;
    d->position_state = zs_ans_advance(d->position_state, 16, start, end - start, w->positions,
                                       w->positions_size, &d->position_bit);
}

static void start_row(struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    const struct zs_ans_mask *mask = &w->ans_mask;
    const uint8_t *thresholds = w->positions;
    if (d->position_left == 0) {
        d->position_state = zs_ans_load(w->positions, w->positions_size, &d->position_bit);
        d->position_left = mask->segment;
    }
    d->position_left--;
    const uint32_t slot = d->position_state & 0xffffu;
    const unsigned last = mask->row_classes - 1;
    unsigned row = 0;
    uint32_t start = 0;
    uint32_t end = 65536; /* one class: it takes all slots, which leaves the state as it is */
    for (; row < last; row++) {
        end = zs_load_u16(thresholds + 2 * row);
        if (slot < end) {
            break;
        }
        start = end;
        end = 65536;
    }
    advance(d, start, end);
    d->row_zeros = thresholds + 2 * (last + row * mask->col_classes);
    d->pending = true;
}

static unsigned column_class(const struct zs_ans_mask *mask, uint32_t col)
{
    const uint32_t bit = col * mask->map_bits;
    const unsigned shift = 8 - mask->map_bits - (bit & 7);
    return (unsigned)(mask->map[bit >> 3] >> shift) & ((1u << mask->map_bits) - 1u);
}

unsigned zs_ans_mask_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const struct zs_weights *w = d->weights;
    unsigned n = 0;
    if (!d->pending) {
        start_row(d);
    }
    for (; n < max && d->col < w->cols; d->col++) {
        const uint32_t zero = zs_load_u16(d->row_zeros + 2 * column_class(&w->ans_mask, d->col));
        if (zero == 0) {
            continue; /* nothing is stored here */
        }
        if ((d->position_state & 0xffffu) < zero) {
            advance(d, 0, zero);
        } else {
            advance(d, zero, 65536);
            cols[n++] = (uint16_t)d->col;
        }
    }
    d->left -= n;
    d->row_done = d->col >= w->cols;
    return n;
}

bool zs_ans_mask_check(const struct zs_weights *w)
{
    const struct zs_ans_mask *mask = &w->ans_mask;
    uint32_t before = 0;
    for (unsigned i = 0; i + 1 < mask->row_classes; i++) {
        const uint32_t threshold = zs_load_u16(w->positions + 2 * i);
        if (threshold <= before) {
            return false;
        }
        before = threshold;
    }
    for (uint32_t col = 0; col < w->cols; col++) {
        if (column_class(mask, col) >= mask->col_classes) {
            return false;
        }
    }
    return true;
}

#endif
