/* zs_value_raw.c - values as they are. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

void zs_raw_take(struct zs_decoder *d, void *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    const uint8_t *values = w->values + (d->value_bit >> 3);
    for (unsigned i = 0; i < n; i++) {
        zs_weight_store(w, values, i, weights, i);
    }
    d->value_bit += n * (zs_weights_are_float(w) ? 32u : 8u);
}
