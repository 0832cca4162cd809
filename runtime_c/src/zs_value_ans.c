/*
 * zs_value_ans.c - codebook indices by asymmetric numeral systems with static
 * frequencies; the codebook is sorted by falling frequency, so that the search
 * for a slot's symbol is short. SPDX-License-Identifier: Apache-2.0
 */
#include "zs_weights.h"

#if ZS_CODEC_ANS

void zs_ans_take(struct zs_decoder *d, void *weights, unsigned n)
{
    const struct zs_weights *w = d->weights;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t slot = d->value_state & (ZS_ANS_SUM - 1u);
        const uint8_t *p = w->frequencies;
        uint32_t index = 0;
        uint32_t start = 0;
        uint32_t frequency;
        for (;; index++) { /* ends: the frequencies add up to ZS_ANS_SUM */
            frequency = *p++;
            if (frequency > 127) {
                frequency = (frequency & 127u) | (uint32_t)*p++ << 7;
            }
            if (slot - start < frequency) {
                break;
            }
            start += frequency;
        }
        d->value_state = zs_ans_advance(d->value_state, ZS_ANS_BITS, start, frequency, w->values,
                                        w->values_size, &d->value_bit);
        zs_weight_store(w, w->codebook, index, weights, i);
    }
}

#endif
