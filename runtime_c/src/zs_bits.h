/*
 * zs_bits.h - bit streams, most significant bit of each byte first.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_BITS_H
#define ZS_BITS_H

#include <stdint.h>

/* Bits that a peek gives at least. */
#define ZS_PEEK_BITS 25

/* The 25 bits or more from `bit` on, left-aligned. May fetch 3 bytes past the stream. */
static inline uint32_t zs_bits_peek(const uint8_t *stream, uint32_t bit)
{
    const uint8_t *p = stream + (bit >> 3);
    const uint32_t word = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    return word << (bit & 7);
}

/* The next `n` bits, 0 to 24. */
static inline uint32_t zs_bits_take(const uint8_t *stream, uint32_t *bit, unsigned n)
{
    const uint32_t value = n == 0 ? 0 : zs_bits_peek(stream, *bit) >> (32 - n);
    *bit += n;
    return value;
}

/* Zero bits before the first one of a word that is not 0. */
static inline unsigned zs_leading_zeros(uint32_t word)
{
#if defined(__GNUC__) && !defined(__ARM_ARCH_6M__)
    return (unsigned)__builtin_clz(word);
#else
    unsigned n = 0;
    if (word >> 16 == 0) {
        n = 16;
        word <<= 16;
    }
    if (word >> 24 == 0) {
        n += 8;
        word <<= 8;
    }
    while (word >> 31 == 0) {
        n++;
        word <<= 1;
    }
    return n;
#endif
}

/*
 * Store the columns of the ones among the first `width` (1 to 25) bits of
 * `window`, which are those of columns *col on; at most `room` of them. *col
 * moves to the first column not looked at. Returns how many were stored.
 */
static inline unsigned zs_mask_columns(uint32_t window, unsigned width, uint32_t *col,
                                       uint16_t *cols, unsigned room)
{
    uint32_t at = *col;
    uint16_t *next = cols;
    const uint16_t *full = cols + room;
    *col += width;
    window = window >> (32 - width) << (32 - width);
    while (window != 0) {
        const unsigned zeros = zs_leading_zeros(window);
        at += zeros;
        if (next == full) {
            *col = at; /* for the next time */
            break;
        }
        *next++ = (uint16_t)at++;
        window = window << zeros << 1;
    }
    return (unsigned)(next - cols);
}

#endif
