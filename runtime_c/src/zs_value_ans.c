/*
 * zs_value_ans.c - codebook indices by asymmetric numeral systems with static
 * frequencies. Values of one frequency are a class; classes are searched in
 * order, frequent values first, and nothing is unpacked into RAM.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_ANS

/* A var of at most 2 bytes. */
static uint32_t next_short(const uint8_t **p)
{
    const uint32_t low = *(*p)++;
    if (low < 128) {
        return low;
    }
    const uint32_t high = *(*p)++;
    return (low & 127u) | high << 7;
}

/* Value number `index` of the class whose part of the codebook starts at `bit`: the first in zigzag
 * order in 8 bits, then differences - 1. */
static int8_t from_deltas(const struct zs_weights *w, uint32_t bit, uint32_t index)
{
    const unsigned width = w->ans.delta_bits;
    uint32_t window = zs_bits_peek(w->codebook, bit);
    uint32_t zigzag = (window >> 24) + index;
    unsigned left = ZS_PEEK_BITS - 8;
    window <<= 8;
    bit += 8;
    for (; index > 0; index--) { /* several differences per fetch */
        if (left < width) {
            window = zs_bits_peek(w->codebook, bit);
            left = ZS_PEEK_BITS;
        }
        zigzag += window >> (32 - width);
        window <<= width;
        bit += width;
        left -= width;
    }
    return (int8_t)((zigzag & 255u) >> 1 ^ (0u - (zigzag & 1u)));
}

/* The value of the next symbol. */
static void take_one(struct zs_decoder *d, void *weights, unsigned i)
{
    const struct zs_weights *w = d->weights;
    const uint8_t *p = w->ans.classes;
    const unsigned delta_bits = w->ans.delta_bits;
    uint32_t slot = d->value_state & (ZS_ANS_SUM - 1u);
    uint32_t at = 0; /* the class's first value: its index, or its bit among differences */
    uint32_t frequency;
    for (;;) { /* ends: the classes add up to ZS_ANS_SUM */
        const uint32_t count = next_short(&p);
        frequency = next_short(&p);
        if (slot < count * frequency) {
            break;
        }
        slot -= count * frequency;
        at += delta_bits == 0 ? count : 8 + (count - 1) * delta_bits;
    }
#if defined(__ARM_ARCH_6M__)
    uint32_t index = 0; /* in the class; there are few, and this core does not divide */
    for (; slot >= frequency; slot -= frequency) {
        index++;
    }
#else
    const uint32_t index = slot / frequency;
    slot -= index * frequency;
#endif
    const uint32_t start = (d->value_state & (ZS_ANS_SUM - 1u)) - slot;
    d->value_state = zs_ans_advance(d->value_state, ZS_ANS_BITS, start, frequency, w->values,
                                    w->values_size, &d->value_bit);
    if (delta_bits == 0) {
        zs_weight_store(w, w->codebook, at + index, weights, i);
    } else {
        ((int16_t *)weights)[i] = (int16_t)(from_deltas(w, at, index) - w->zero_point);
    }
}

void zs_ans_take(struct zs_decoder *d, void *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    for (unsigned i = 0; i < n; i++) {
        if (d->value_left == 0) {
            d->value_state = zs_ans_load(w->values, w->values_size, &d->value_bit);
            d->value_left = w->ans.segment;
        }
        d->value_left--;
        take_one(d, weights, i);
    }
}

#endif
