/*
 * zs_value_huffman.c - codebook indices in canonical Huffman codes. The codebook
 * is sorted by code length, so that a code's rank is its index.
 *
 * Short codes are looked up three at a time, in the bits of one fetch. The table
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
    memset(&d->value_table, 0, sizeof d->value_table);
    if (w->count < ZS_HUFFMAN_TABLE_PAYS) {
        return;
    }
    uint8_t *lengths = d->value_table.length;
    uint8_t *symbols = d->value_table.symbol;
    zs_huffman_fill(lengths, symbols, ZS_VALUE_TABLE_BITS, &w->huffman);
    for (unsigned i = 0; i < 1u << ZS_VALUE_TABLE_BITS && !w->is_float; i++) {
        if (lengths[i] != 0) {
            const int32_t weight = (int8_t)w->codebook[symbols[i]] - w->zero_point;
            const bool fits = weight >= INT8_MIN && weight <= INT8_MAX;
            symbols[i] = fits ? (uint8_t)weight : lengths[i];
            lengths[i] = fits ? lengths[i] : 0;
        }
    }
}

static void take_s8(struct zs_decoder *d, int16_t *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    const uint8_t *lengths = d->value_table.length;
    const int8_t *symbols = (const int8_t *)d->value_table.symbol;
    const uint8_t *stream = w->values;
    uint32_t bit = d->value_bit;
    while (n > 0) {
        uint32_t window = zs_bits_peek(stream, bit);
        unsigned length = lengths[window >> TABLE_SHIFT];
        *weights = symbols[window >> TABLE_SHIFT];
        bit += length;
        if (n >= 3) {
            const unsigned first = length;
            window <<= first;
            const unsigned second = lengths[window >> TABLE_SHIFT];
            weights[1] = symbols[window >> TABLE_SHIFT];
            bit += second;
            window <<= second;
            length = lengths[window >> TABLE_SHIFT];
            weights[2] = symbols[window >> TABLE_SHIFT];
            bit += length;
            if (length != 0) {
                weights += 3;
                n -= 3;
                continue;
            }
            /* One of them is longer, and so were those looked up behind it: again 0 bits. */
            const unsigned taken = first == 0 ? 0 : second == 0 ? 1 : 2;
            weights += taken;
            n -= taken;
            window = zs_bits_peek(stream, bit);
        }
        if (length == 0) {
            uint32_t next = bit;
            const unsigned least = (unsigned)*weights;
            const uint32_t index = zs_huffman_search(&w->huffman, least, window, &next);
            bit = next;
            *weights = (int16_t)((int8_t)w->codebook[index] - w->zero_point);
        }
        weights++;
        n--;
    }
    d->value_bit = bit;
}

#if ZS_FLOAT32_KERNELS

static void take_f32(struct zs_decoder *d, float *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t window = zs_bits_peek(w->values, d->value_bit);
        const unsigned length = d->value_table.length[window >> TABLE_SHIFT];
        uint32_t index = d->value_table.symbol[window >> TABLE_SHIFT];
        if (length != 0) {
            d->value_bit += length;
        } else {
            index = zs_huffman_search(&w->huffman, index, window, &d->value_bit);
        }
        weights[i] = zs_load_f32(w->codebook + 4 * index);
    }
}

#endif

void zs_huffman_take(struct zs_decoder *d, void *weights, unsigned n)
{
#if ZS_FLOAT32_KERNELS
    if (d->weights->is_float) {
        take_f32(d, weights, n);
        return;
    }
#endif
    take_s8(d, weights, n);
}

#endif
