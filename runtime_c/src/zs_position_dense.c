/* zs_position_dense.c - every element is stored. SPDX-License-Identifier: Apache-2.0 */
#include "zs_weights.h"

unsigned zs_dense_take(struct zs_decoder *d, uint16_t *cols, unsigned max)
{
    const uint32_t left = d->weights->cols - d->col;
    const unsigned n = left < max ? (unsigned)left : max;
    for (unsigned i = 0; i < n; i++) {
        cols[i] = (uint16_t)d->col++;
    }
    d->left -= n;
    d->row_done = d->col == d->weights->cols;
    return n;
}
