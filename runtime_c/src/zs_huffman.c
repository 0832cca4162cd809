/* zs_huffman.c - tables of short Huffman codes. SPDX-License-Identifier: Apache-2.0 */
#include "zs_huffman.h"
#include "zs_weights.h"

#if ZS_CODEC_HUFFMAN || ZS_CODEC_GAP

void zs_huffman_fill(uint8_t *lengths, uint8_t *symbols, unsigned bits,
                     const struct zs_huffman *code)
{
    unsigned length = 1;
    for (uint32_t i = 0; i < 1u << bits; i++) {
        const uint32_t window = i << (ZS_MAX_CODE_LENGTH - bits);
        while (window >= code->limit[length]) {
            length++;
        }
        const int32_t rank =
            (int32_t)(window >> (ZS_MAX_CODE_LENGTH - length)) + code->rank[length];
        lengths[i] = (uint8_t)(length <= bits ? length : 0);
        symbols[i] = (uint8_t)(length <= bits ? (unsigned)rank : length);
    }
}

#endif
