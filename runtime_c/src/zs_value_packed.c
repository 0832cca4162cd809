/* zs_value_packed.c - codebook indices of 1 to 8 bits. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

#if ZS_CODEC_PACKED

void zs_packed_take(struct zs_decoder *d, void *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t index = zs_bits_take(w->values, &d->value_bit, w->index_bits);
        zs_weight_store(w, w->codebook, index, weights, i);
    }
}

#endif
