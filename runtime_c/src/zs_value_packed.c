/* zs_value_packed.c - codebook indices of 1 to 8 bits. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

#if ZS_CODEC_PACKED

void zs_packed_take(struct zs_decoder *d, void *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    const unsigned width = w->index_bits;
    uint32_t window = 0;
    unsigned left = 0; /* bits of the window */
    for (unsigned i = 0; i < n; i++) {
        if (left < width) {
            window = zs_bits_peek(w->values, d->value_bit);
            left = ZS_PEEK_BITS;
        }
        zs_weight_store(w, w->codebook, window >> (32 - width), weights, i);
        window <<= width;
        left -= width;
        d->value_bit += width;
    }
}

#endif
