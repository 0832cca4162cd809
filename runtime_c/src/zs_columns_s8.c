/*
 * zs_columns_s8.c - matrix-vector products by columns straight from the
 * streams: each column of 4-bit runs and raw or packed values is added to the
 * sums as it is decoded (EIE, Han et al., ISCA 2016), without a buffer between.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_internal.h"

#include "zs_bits.h"
#include "zs_weights.h"

#if ZS_OP_FULLY_CONNECTED && ZS_INT8_KERNELS

#if ZS_CODEC_GAP4

/*
 * Take the next run, and the value of the element behind it, if there is one. The column ends with
 * its last element. To be used where `sums`, `n` and `x` are. Weights have no zero point here.
 */
#define TAKE(run, value)                      \
    do {                                      \
        const uint32_t zeros = (run);         \
        sums += zeros;                        \
        if (zeros != 15) {                    \
            *sums++ += (uint32_t)((value)*x); \
            if (--n == 0) {                   \
                return;                       \
            }                                 \
        }                                     \
    } while (0)

/* Add x times the `n` elements of a column, whose runs start at unit `unit` of theirs. */
static ZS_NOINLINE void add_raw(const int8_t *value, const uint8_t *runs, uint32_t unit, uint32_t n,
                                int32_t x, uint32_t *sums)
{
    runs += unit / 2;
#if defined(__ARM_ARCH) && defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB >= 2
    uint32_t two, run, sum;
    int32_t weight;
    /* The loop of the C below: half its cycles, because the loads of an element follow each other
     * and pointers move with them. */
    __asm__ volatile("cmp %[odd], #0\n\t"
                     "beq 0f\n\t"
                     "ldrb %[two], [%[runs]], #1\n\t"
                     "b 2f\n"
                     "0:\n\t"
                     "ldrb %[two], [%[runs]], #1\n\t"
                     "lsr.w %[run], %[two], #4\n\t"
                     "cmp.w %[run], #15\n\t"
                     "add.w %[sums], %[sums], %[run], lsl #2\n\t"
                     "beq.w 2f\n\t"
                     "ldr.w %[sum], [%[sums]]\n\t"
                     "ldrsb %[weight], [%[value]], #1\n\t"
                     "mla %[sum], %[weight], %[x], %[sum]\n\t"
                     "subs.w %[n], %[n], #1\n\t"
                     "str %[sum], [%[sums]], #4\n\t"
                     "beq.w 3f\n"
                     "2:\n\t"
                     "and.w %[run], %[two], #15\n\t"
                     "cmp.w %[run], #15\n\t"
                     "add.w %[sums], %[sums], %[run], lsl #2\n\t"
                     "beq.w 0b\n\t"
                     "ldr.w %[sum], [%[sums]]\n\t"
                     "ldrsb %[weight], [%[value]], #1\n\t"
                     "mla %[sum], %[weight], %[x], %[sum]\n\t"
                     "subs.w %[n], %[n], #1\n\t"
                     "str %[sum], [%[sums]], #4\n\t"
                     "bne.w 0b\n"
                     "3:\n\t"
                     : [runs] "+r"(runs), [value] "+r"(value), [sums] "+r"(sums), [n] "+r"(n),
                       [two] "=&r"(two), [run] "=&r"(run), [sum] "=&r"(sum), [weight] "=&r"(weight)
                     : [x] "r"(x), [odd] "r"(unit & 1)
                     : "cc", "memory");
#else
    if ((unit & 1) != 0) {
        TAKE(*runs++ & 15u, *value++);
    }
    for (;;) {
        const uint32_t two = *runs++;
        TAKE(two >> 4, *value++);
        TAKE(two & 15, *value++);
    }
#endif
}

#if ZS_CODEC_PACKED

/* Indices of the codebook, a window of them at a time. */
struct indices {
    const uint8_t *stream;
    uint32_t bit;
    uint32_t window;
    unsigned left, width; /* bits: of the window, of an index */
};

static inline uint32_t next_index(struct indices *i)
{
    if (i->left < i->width) {
        i->window = zs_bits_peek(i->stream, i->bit);
        i->left = ZS_PEEK_BITS;
    }
    const uint32_t index = i->window >> (32 - i->width);
    i->window <<= i->width;
    i->left -= i->width;
    i->bit += i->width;
    return index;
}

/* The same for a column whose indices start at bit `bit` of theirs. */
static ZS_NOINLINE void add_packed(const struct zs_weights *w, uint32_t bit, uint32_t unit,
                                   uint32_t n, int32_t x, uint32_t *sums)
{
    const int8_t *codebook = (const int8_t *)w->codebook;
    struct indices indices = { w->values, bit, 0, 0, w->index_bits };
    const uint8_t *runs = w->positions + unit / 2;
    if ((unit & 1) != 0) {
        TAKE(*runs++ & 15u, codebook[next_index(&indices)]);
    }
    for (;;) {
        const uint32_t two = *runs++;
        TAKE(two >> 4, codebook[next_index(&indices)]);
        TAKE(two & 15, codebook[next_index(&indices)]);
    }
}

#endif

/* A column, and where the next one is. */
struct walk {
    const int8_t *in;         /* input of the next column */
    uint32_t bit;             /* of the next column in the directory */
    uint32_t elements, units; /* of the columns before that */
    uint32_t n, own_units;    /* of the column */
    int32_t x;
};

/* Go to the next column with an input that is not `zero`, and elements. False if there is none. */
static ZS_NOINLINE bool next_column(const struct zs_weights *w, int32_t zero, struct walk *walk)
{
    const uint8_t *directory = w->directory;
    const unsigned second = w->directory_bits[1];
    const unsigned width = w->directory_bits[0] + second;
    const uint32_t end = w->rows * width;
    const int8_t *in = walk->in;
    uint32_t bit = walk->bit;
    uint32_t elements = walk->elements;
    /* An entry is elements * 2^second + units: the sum of units is that of entries, less the other.
     * The third field, for Huffman codes, is empty. */
    uint32_t entries = (elements << second) + walk->units;
    uint32_t entry, n;
    int32_t x;
    do {
        if (bit == end) {
            return false;
        }
        entry = zs_bits_peek(directory, bit) >> (32 - width);
        bit += width;
        n = entry >> second;
        x = *in++ - zero;
        elements += n;
        entries += entry;
    } while (x == 0 || n == 0);
    *walk = (struct walk){
        .in = in,
        .bit = bit,
        .elements = elements,
        .units = entries - (elements << second),
        .n = n,
        .own_units = entry - (n << second),
        .x = x,
    };
    return true;
}

bool zs_add_columns_s8(struct zs_ctx *ctx, const struct zs_weights *w, const int8_t *in,
                       int32_t zero, uint32_t *sums)
{
    const bool packed = zs_values_are(w, ZS_VALUE_PACKED);
    if (!zs_positions_are(w, ZS_POSITION_GAP4) || (!packed && !zs_values_are(w, ZS_VALUE_RAW))
        || w->zero_point != 0 || w->directory_bits[0] + w->directory_bits[1] > ZS_PEEK_BITS
        || w->directory_bits[0] == 0 || w->directory_bits[1] == 0) {
        return false;
    }
    struct walk walk = { .in = in };
    const int8_t *values = (const int8_t *)w->values;
    const uint8_t *runs = w->positions;
    uint32_t macs = 0;
    while (next_column(w, zero, &walk)) {
        const uint32_t first = walk.elements - walk.n; /* element, and unit, of the column */
        const uint32_t unit = walk.units - walk.own_units;
#if ZS_CODEC_PACKED
        if (packed) {
            add_packed(w, first * w->index_bits, unit, walk.n, walk.x, sums);
        }
#endif
        if (!packed) {
            add_raw(values + first, runs, unit, walk.n, walk.x, sums);
        }
        macs += walk.n;
    }
    ctx->macs += macs;
    return true;
}

#else

bool zs_add_columns_s8(struct zs_ctx *ctx, const struct zs_weights *w, const int8_t *in,
                       int32_t zero, uint32_t *sums)
{
    (void)ctx;
    (void)w;
    (void)in;
    (void)zero;
    (void)sums;
    return false;
}

#endif
#endif
