/*
 * zs_value_huffman.c - codebook indices in canonical Huffman codes. The codebook
 * is sorted by code length, so that a code's rank is its index.
 *
 * Short codes are looked up two at a time, in the bits of one fetch. The table
 * of an int8 matrix holds weights, zero point subtracted, where those fit 8
 * bits; that of a float matrix, indices.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_HUFFMAN

#define TABLE_SHIFT (32 - ZS_VALUE_TABLE_BITS)

void zs_huffman_start(struct zs_decoder *d)
{
    const struct zs_weights *w = d->weights;
    zs_huffman_fill(d->value_table, ZS_VALUE_TABLE_BITS, w->count, &w->huffman,
                    zs_weights_are_float(w) ? NULL : w->codebook, w->zero_point);
}

/* The weight whose code is at the top of `window`, too long for the table. */
static inline int16_t take_long(const struct zs_weights *w, int32_t entry, uint32_t window,
                                uint32_t *bit)
{
    const uint32_t index = zs_huffman_search(&w->huffman, (unsigned)(entry >> 8), window, bit);
    return (int16_t)((int8_t)w->codebook[index] - w->zero_point);
}

static void take_s8(struct zs_decoder *d, int16_t *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    const int16_t *table = (const int16_t *)d->value_table;
    const uint8_t *stream = w->values;
    const int16_t *end = weights + n;
    uint32_t bit = d->value_bit;
    uint32_t window;
    int32_t first, second;
    while (weights != end) {
        if (weights + 1 == end) {
            window = zs_bits_peek(stream, bit);
            first = 1;
            second = table[window >> TABLE_SHIFT];
            bit += (uint32_t)(second & 255);
            *weights++ = (int16_t)(second >> 8);
        } else {
#if ZS_DSP
            uint32_t t, u;
            /* A shift by a register takes its low byte, which is the length of an entry. */
            __asm__(".balign 4\n1:\n\t"
                    "lsr.w %[t], %[bit], #3\n\t"
                    "and.w %[u], %[bit], #7\n\t"
                    "ldr.w %[window], [%[stream], %[t]]\n\t"
                    "rev.w %[window], %[window]\n\t"
                    "lsl.w %[window], %[window], %[u]\n\t"
                    "lsr.w %[t], %[window], %[shift]\n\t"
                    "add.w %[weights], %[weights], #4\n\t"
                    "ldrsh.w %[first], [%[table], %[t], lsl #1]\n\t"
                    "lsl.w %[window], %[window], %[first]\n\t"
                    "lsr.w %[t], %[window], %[shift]\n\t"
                    "asr.w %[u], %[first], #8\n\t"
                    "ldrsh.w %[second], [%[table], %[t], lsl #1]\n\t"
                    "strh %[u], [%[weights], #-4]\n\t"
                    "uxtab %[bit], %[bit], %[first]\n\t"
                    "asr.w %[t], %[second], #8\n\t"
                    "strh %[t], [%[weights], #-2]\n\t"
                    "uxtb.w %[u], %[second]\n\t"
                    "cmp.w %[weights], %[last]\n\t"
                    "add.w %[bit], %[bit], %[u]\n\t"
                    "cbz %[u], 2f\n\t"
                    "blo.w 1b\n"
                    "2:\n\t"
                    : [weights] "+r"(weights), [bit] "+r"(bit), [first] "=&r"(first),
                      [second] "=&r"(second), [window] "=&r"(window), [t] "=&r"(t), [u] "=&l"(u)
                    : [last] "r"(end - 1), [stream] "r"(stream), [table] "r"(table),
                      [shift] "I"(TABLE_SHIFT)
                    : "cc", "memory");
#else
            do {
                window = zs_bits_peek(stream, bit);
                first = table[window >> TABLE_SHIFT];
                window <<= first & 255;
                second = table[window >> TABLE_SHIFT];
                weights[0] = (int16_t)(first >> 8);
                weights[1] = (int16_t)(second >> 8);
                bit += (uint32_t)((first & 255) + (second & 255));
                weights += 2;
            } while ((second & 255) != 0 && weights + 1 < end);
#endif
        }
        if ((second & 255) == 0) {
            /* Of which there are 15 bits left in the window; if the first is longer, both are it.
             */
            weights -= (first & 255) != 0 ? 1 : 2;
            *weights++ = take_long(w, second, window, &bit);
        }
    }
    d->value_bit = bit;
}

#if ZS_FLOAT32_KERNELS

static void take_f32(struct zs_decoder *d, float *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t window = zs_bits_peek(w->values, d->value_bit);
        const unsigned entry = d->value_table[window >> TABLE_SHIFT];
        uint32_t index = entry >> 8;
        d->value_bit += entry & 255u;
        if ((entry & 255u) == 0) {
            index = zs_huffman_search(&w->huffman, index, window, &d->value_bit);
        }
        weights[i] = zs_load_f32(w->codebook + 4 * index);
    }
}

#endif

void zs_huffman_take(struct zs_decoder *d, void *weights, unsigned n)
{
#if ZS_FLOAT32_KERNELS
    if (zs_weights_are_float(d->weights)) {
        take_f32(d, weights, n);
        return;
    }
#endif
    take_s8(d, weights, n);
}

#endif
