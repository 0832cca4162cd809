/*
 * zs_value_huffman.c - codebook indices in canonical Huffman codes. The codebook
 * is sorted by code length, so that a code's rank is its index.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_HUFFMAN

void zs_huffman_take(struct zs_decoder *d, void *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t window = zs_bits_peek(w->values, d->value_bit) >> 16;
        unsigned length = 1;
        while (window >= w->limit[length]) {
            length++; /* ends: the code is complete, so the last limit is 2^16 */
        }
        const int32_t code = (int32_t)(window >> (16 - length));
        d->value_bit += length;
        zs_weight_store(w, w->codebook, (uint32_t)(code + w->rank[length]), weights, i);
    }
}

#endif
