/* zs_huffman.c - tables of short Huffman codes. SPDX-License-Identifier: Apache-2.0 */
#include "zs_huffman.h"
#include "zs_weights.h"

#if ZS_CODEC_HUFFMAN || ZS_CODEC_GAP

void zs_huffman_fill(uint16_t *table, unsigned bits, uint32_t count, const struct zs_huffman *code,
                     const uint8_t *symbols, int32_t zero)
{
    const uint16_t *end = table + (1u << bits);
    if (count < ZS_HUFFMAN_TABLE_PAYS) {
        memset(table, 0, sizeof *table << bits);
        return;
    }
    unsigned rank = 0;
    const unsigned shift = ZS_MAX_CODE_LENGTH - bits;
    const uint16_t *start = table;
    for (unsigned length = 1; length <= bits; length++) {
        const uint16_t *past = start + (code->limit[length] >> shift);
        while (table < past) {
            const int32_t symbol = symbols == NULL ? (int32_t)rank : (int8_t)symbols[rank] - zero;
            const bool fits = symbols == NULL || (symbol >= INT8_MIN && symbol <= INT8_MAX);
            const uint16_t entry = (uint16_t)(fits ? (uint32_t)symbol << 8 | length : length << 8);
            const uint16_t *run = table + (1u << (bits - length));
            while (table < run) {
                *table++ = entry;
            }
            rank++;
        }
    }
    unsigned length = bits + 1;
    while (table < end) {
        while ((uint32_t)(table - start) << shift >= code->limit[length]) {
            length++;
        }
        *table++ = (uint16_t)(length << 8);
    }
}

#endif
