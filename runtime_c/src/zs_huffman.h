/*
 * zs_huffman.h - canonical Huffman codes: a small table for short
 * codes, a search by length for longer ones.
 *
 * A table of 2^bits entries says of the next `bits` bits of a stream: in its low
 * byte the length of their code, in the other one the symbol; or 0 and a length
 * from which zs_huffman_search() finds a longer code. It belongs to a decoder
 * and is filled when a matrix has enough symbols to pay for that; a zeroed one
 * is valid, too, and leaves everything to the search.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_HUFFMAN_H
#define ZS_HUFFMAN_H

#include "zs_bits.h"

#define ZS_MAX_CODE_LENGTH 15
/* Symbols from which filling a table costs less than it saves. */
#define ZS_HUFFMAN_TABLE_PAYS 128u

/* A canonical, complete Huffman code, decoded by comparing with where each length ends. */
struct zs_huffman {
    uint16_t limit[ZS_MAX_CODE_LENGTH + 1]; /* past the last code of a length, << 15 - length */
    int16_t rank[ZS_MAX_CODE_LENGTH + 1];   /* rank of a code among all - the code */
};

/*
 * Fill a table for a matrix of `count` symbols. An entry's symbol is symbols[rank]
 * less `zero` if that fits 8 bits, or with no symbols the rank itself.
 */
void zs_huffman_fill(uint16_t *table, unsigned bits, uint32_t count, const struct zs_huffman *code,
                     const uint8_t *symbols, int32_t zero);

/*
 * The rank of the code of at least `length` bits that is at the top of
 * `window`, left-aligned, and of which *bit moves past the end.
 */
static inline uint32_t zs_huffman_search(const struct zs_huffman *code, unsigned length,
                                         uint32_t window, uint32_t *bit)
{
    window >>= 32 - ZS_MAX_CODE_LENGTH;
    while (window >= code->limit[length]) {
        length++; /* ends: the code is complete, so the last limit is 2^15 */
    }
    *bit += length;
    return (uint32_t)((int32_t)(window >> (ZS_MAX_CODE_LENGTH - length)) + code->rank[length]);
}

#endif
