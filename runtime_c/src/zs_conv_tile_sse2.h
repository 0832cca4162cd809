/*
 * zs_conv_tile_sse2.h - tiles of int8 pixels for x86-64, where models are tried
 * out: 16, 8 or 4 pixels and two taps at a time, with PMADDWD.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_TILE_SSE2_H
#define ZS_CONV_TILE_SSE2_H

#include <emmintrin.h>

#include "zs_conv_pairs.h"

/* The sums of 4 pixels, of which `x` has two taps each. */
static inline void add_four(__m128i *sums, __m128i x, __m128i weights)
{
    *sums = _mm_add_epi32(*sums, _mm_madd_epi16(x, weights));
}

/* Those of 8 pixels, `x` as bytes. */
static inline void add_eight(__m128i *sums, __m128i x, __m128i weights)
{
    add_four(&sums[0], _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8), weights);
    add_four(&sums[1], _mm_srai_epi16(_mm_unpackhi_epi8(x, x), 8), weights);
}

static inline __m128i load_8(const int8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

static inline __m128i load_4(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm_cvtsi32_si128(word);
}

static inline __m128i weights_of(const struct tap *tap)
{
    return _mm_set1_epi32((int32_t)tap->weights);
}

static inline void store(uint32_t *sums, const __m128i *tile, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        _mm_storeu_si128((__m128i *)(void *)(sums + 4 * i), tile[i]);
    }
}

/* Input elements of a tile's pixels are next to each other in the first three. */
static inline void tile_of_16(const struct tap *tap, const struct tap *end, const int8_t *in,
                              uint32_t start, uint32_t *sums)
{
    const __m128i first = _mm_set1_epi32((int32_t)start);
    __m128i tile[4] = { first, first, first, first };
    for (; tap < end; tap++) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(in + tap->a));
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(in + tap->b));
        const __m128i weights = weights_of(tap);
        add_eight(tile, _mm_unpacklo_epi8(a, b), weights);
        add_eight(tile + 2, _mm_unpackhi_epi8(a, b), weights);
    }
    store(sums, tile, 4);
}

static inline void tile_of_8(const struct tap *tap, const struct tap *end, const int8_t *in,
                             uint32_t start, uint32_t *sums)
{
    const __m128i first = _mm_set1_epi32((int32_t)start);
    __m128i tile[2] = { first, first };
    for (; tap < end; tap++) {
        add_eight(tile, _mm_unpacklo_epi8(load_8(in + tap->a), load_8(in + tap->b)),
                  weights_of(tap));
    }
    store(sums, tile, 2);
}

static inline void tile_of_4(const struct tap *tap, const struct tap *end, const int8_t *in,
                             uint32_t start, uint32_t *sums)
{
    __m128i tile = _mm_set1_epi32((int32_t)start);
    for (; tap < end; tap++) {
        const __m128i x = _mm_unpacklo_epi8(load_4(in + tap->a), load_4(in + tap->b));
        add_four(&tile, _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8), weights_of(tap));
    }
    store(sums, &tile, 1);
}

/* x0, x2, x4, x6 and x8, x10, x12, x14, of which loads from x0 and x7 on have the even and the odd
 * bytes: nothing past the last is read. */
static inline void tile_of_8_every_other(const struct tap *tap, const struct tap *end,
                                         const int8_t *in, uint32_t start, uint32_t *sums)
{
    const __m128i first = _mm_set1_epi32((int32_t)start);
    __m128i tile[2] = { first, first };
    for (; tap < end; tap++) {
        const __m128i weights = weights_of(tap);
        const __m128i even = _mm_unpacklo_epi16(load_8(in + tap->a), load_8(in + tap->b));
        const __m128i odd = _mm_unpacklo_epi16(load_8(in + tap->a + 7), load_8(in + tap->b + 7));
        add_four(&tile[0], _mm_srai_epi16(_mm_slli_epi16(even, 8), 8), weights);
        add_four(&tile[1], _mm_srai_epi16(odd, 8), weights);
    }
    store(sums, tile, 2);
}

static inline void line_of_tiles(const struct tap *taps, const struct tap *end, const int8_t *in,
                                 uint32_t start, uint32_t *sums, int32_t pixels)
{
    int32_t i = 0;
    for (; pixels - i >= 16; i += 16) {
        tile_of_16(taps, end, in + i, start, sums + i);
    }
    if (pixels - i > 4 && pixels >= 8) {
        i = pixels - i >= 8 ? i : pixels - 8;
        tile_of_8(taps, end, in + i, start, sums + i);
        i += 8;
    }
    for (; i < pixels; i += TILE) {
        i = i > pixels - TILE ? pixels - TILE : i;
        tile_of_4(taps, end, in + i, start, sums + i);
    }
}

/* Sums of lines, `next` apart, of n >= TILE pixels whose input elements are `step` apart. The last
 * tile of a line may overlap the one before. */
static inline void tiles(const struct tap *taps, int32_t n, const int8_t *in, int32_t step,
                         uint32_t start, uint32_t *sums, int32_t pixels, int32_t lines,
                         int32_t next)
{
    const struct tap *end = taps + (n + 1) / 2;
    for (; lines > 0; lines--, in += next, sums += pixels) {
        if (step == 1) {
            line_of_tiles(taps, end, in, start, sums, pixels);
            continue;
        }
        int32_t i = 0;
        for (; step == 2 && pixels >= 8 && i < pixels; i += 8) {
            i = i > pixels - 8 ? pixels - 8 : i;
            tile_of_8_every_other(taps, end, in + 2 * i, start, sums + i);
        }
        for (; i < pixels; i++) {
            sums[i] = pixel(taps, n, in + i * step, start);
        }
    }
}

#endif
