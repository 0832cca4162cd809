/*
 * zs_conv_pairs.h - taps in pairs, for cores that multiply two at a time.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_PAIRS_H
#define ZS_CONV_PAIRS_H

struct tap {
    int32_t a, b;     /* offsets of two taps' input elements for the region's first pixel */
    uint32_t weights; /* of a in the low half, of b in the high half */
};
#define TAPS_SIZE(n) (((n) + 1) / 2 * (uint32_t)sizeof(struct tap))

static inline struct tap *put_tap(struct tap *next, int32_t i, int32_t offset, weight_t weight)
{
    if ((i & 1) == 0) {
        *next = (struct tap){ offset, offset, (uint16_t)weight }; /* the other weighs 0 so far */
        return next;
    }
    next->b = offset;
    next->weights |= (uint32_t)(uint16_t)weight << 16;
    return next + 1;
}

static inline struct tap *put_two(struct tap *next, int32_t offset, weight_t weight, int32_t second,
                                  weight_t second_weight)
{
    const uint32_t weights = (uint16_t)weight | (uint32_t)(uint16_t)second_weight << 16;
    *next = (struct tap){ offset, second, weights };
    return next + 1;
}

static ZS_NOINLINE uint32_t pixel(const struct tap *taps, int32_t n, const int8_t *in, uint32_t sum)
{
    const struct tap *end = taps + (n + 1) / 2;
    for (; taps < end; taps++) {
        sum += (uint32_t)((int16_t)taps->weights * in[taps->a]
                          + ((int32_t)taps->weights >> 16) * in[taps->b]);
    }
    return sum;
}

#endif
