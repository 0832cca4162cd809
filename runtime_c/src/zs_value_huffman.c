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
        const uint32_t index = zs_huffman_next(&w->huffman, w->values, &d->value_bit);
        zs_weight_store(w, w->codebook, index, weights, i);
    }
}

#endif
