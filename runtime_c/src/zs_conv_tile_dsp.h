/*
 * zs_conv_tile_dsp.h - tiles of int8 pixels for the DSP extension (Cortex-M4,
 * M7, M33): all multiply-accumulates of a convolution.
 *
 * Two taps at a time: a word holds 4 neighbouring pixels of one tap's input.
 * The halfwords of two taps are paired first and extended to 16 bits then,
 * which takes 6 instructions for 8 operands of SMLAD (8 the other way round).
 *
 * In assembly, because compilers spread the loads of a pair, use LDRD and
 * compute addresses, where loads that follow each other take a cycle each; as
 * functions of their own, because they take all registers. All instructions of
 * the loops are wide, so that from an aligned start none straddles two words,
 * which would cost a cycle for three.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_TILE_DSP_H
#define ZS_CONV_TILE_DSP_H

struct tap {
    int32_t a, b;     /* offsets of two taps' input elements for the region's first pixel */
    uint32_t weights; /* of a in the low half, of b in the high half */
};
#define TAPS_SIZE(n) (((n) + 1) / 2 * (uint32_t)sizeof(struct tap))

static inline struct tap *put_tap(struct tap *next, int32_t i, int32_t offset, weight_t weight)
{
    if ((i & 1) == 0) {
        *next = (struct tap){ offset, offset, (uint16_t)weight }; /* the other weighs 0 so far */
        return next;
    }
    next->b = offset;
    next->weights |= (uint32_t)(uint16_t)weight << 16;
    return next + 1;
}

/* Tiles that follow each other in a row. The assembly knows where each member is. */
struct tiles {
    const struct tap *taps, *end;
    const int8_t *in;
    int32_t count;
    uint32_t start;
    uint32_t *sums; /* 4 for each tile */
};

/* Input elements of the 4 pixels of a tile are next to each other, or every other one. */
void zs_conv_tiles_of_neighbours(const struct tiles *tiles);
void zs_conv_tiles_of_every_other(const struct tiles *tiles);

/* Two taps of two filters, and tiles of them. */
struct taps_of_two {
    int32_t a, b;
    uint32_t weights[2]; /* of each filter, as in struct tap */
};

struct tiles_of_two {
    const struct taps_of_two *taps, *end;
    const int8_t *in;
    int32_t count;
    uint32_t start[2];
    uint32_t *sums[2];
};

void zs_conv_tiles_of_two_filters(const struct tiles_of_two *tiles);

#define FUNCTION(name, body)                                            \
    __asm__(".syntax unified\n\t.thumb\n\t"                             \
            ".section .text." name ",\"ax\",%progbits\n\t.balign 4\n\t" \
            ".global " name "\n\t.type " name ", %function\n\t"         \
            ".thumb_func\n" name ":\n\t" body ".size " name ", . - " name "\n\t.text\n")

/*
 * Run `pair` for all pairs of taps: a first one if their number is odd, then
 * two at a time. r0 are the taps, `rest` gives bytes from r0 to their end in
 * `t`, and `odd` is the bit of it that is set for an odd number of pairs.
 */
#define ALL_PAIRS(pair, rest, t, odd)                             \
    rest "tst.w " t ", #" odd "\n\t"                              \
         "beq.w 2f\n\t" pair "2:\n\t" rest "cmp.w " t ", #0\n\t"  \
         "beq.w 4f\n\t"                                           \
         "b.w 3f\n\t"                                             \
         ".balign 4\n3:\n\t" pair pair rest "cmp.w " t ", #0\n\t" \
         "bne.w 3b\n4:\n\t"

/* r0 taps, r1 in, r2 end, r3 sums, r4-r7 sums of the tile, r12 tiles left, lr the struct. */
#define PAIR_OF_NEIGHBOURS           \
    "ldr r8, [r0], #12\n\t"          \
    "ldr r9, [r0, #-8]\n\t"          \
    "ldr r11, [r0, #-4]\n\t"         \
    "ldr.w r8, [r1, r8]\n\t"         \
    "ldr.w r9, [r1, r9]\n\t"         \
    "pkhbt r10, r8, r9, lsl #16\n\t" \
    "pkhtb r9, r9, r8, asr #16\n\t"  \
    "sxtb16 r8, r10\n\t"             \
    "sxtb16 r10, r10, ror #8\n\t"    \
    "smlad r4, r11, r8, r4\n\t"      \
    "sxtb16 r8, r9\n\t"              \
    "sxtb16 r9, r9, ror #8\n\t"      \
    "smlad r5, r11, r10, r5\n\t"     \
    "smlad r6, r11, r8, r6\n\t"      \
    "smlad r7, r11, r9, r7\n\t"

FUNCTION("zs_conv_tiles_of_neighbours",
         "push {r4-r11, lr}\n\t"
         "mov lr, r0\n\t"
         "ldr r2, [lr, #4]\n\t"
         "ldr r1, [lr, #8]\n\t"
         "ldr.w r12, [lr, #12]\n\t"
         "ldr r3, [lr, #20]\n"
         "1:\n\t"
         "ldr r0, [lr, #0]\n\t"
         "ldr r4, [lr, #16]\n\t"
         "mov r5, r4\n\t"
         "mov r6, r4\n\t"
         "mov r7, r4\n\t" ALL_PAIRS(PAIR_OF_NEIGHBOURS, "sub.w r11, r2, r0\n\t", "r11",
                                    "4") "stmia r3!, {r4-r7}\n\t"
                                         "adds r1, #4\n\t"
                                         "subs r12, r12, #1\n\t"
                                         "bne 1b\n\t"
                                         "pop {r4-r11, pc}\n\t");

/*
 * x0, x2 of (x0 ... x3) and x4, x6 of (x3 ... x6). r0 taps, r1 in, r2 in + 3,
 * r4-r7 sums of the tile, r12 what is left of the struct in memory: the stack
 * has the end, the sums and the tiles left.
 */
#define PAIR_OF_EVERY_OTHER            \
    "ldr r8, [r0], #12\n\t"            \
    "ldr r9, [r0, #-8]\n\t"            \
    "ldr lr, [r0, #-4]\n\t"            \
    "ldr.w r10, [r1, r8]\n\t"          \
    "ldr.w r11, [r1, r9]\n\t"          \
    "ldr.w r8, [r2, r8]\n\t"           \
    "ldr.w r9, [r2, r9]\n\t"           \
    "sxtb16 r10, r10\n\t"              \
    "sxtb16 r11, r11\n\t"              \
    "sxtb16 r8, r8, ror #8\n\t"        \
    "sxtb16 r9, r9, ror #8\n\t"        \
    "pkhbt r3, r10, r11, lsl #16\n\t"  \
    "pkhtb r11, r11, r10, asr #16\n\t" \
    "smlad r4, lr, r3, r4\n\t"         \
    "smlad r5, lr, r11, r5\n\t"        \
    "pkhbt r3, r8, r9, lsl #16\n\t"    \
    "pkhtb r9, r9, r8, asr #16\n\t"    \
    "smlad r6, lr, r3, r6\n\t"         \
    "smlad r7, lr, r9, r7\n\t"

FUNCTION("zs_conv_tiles_of_every_other",
         "push {r3-r11, lr}\n\t" /* r3 makes room for the tiles left */
         "ldr r1, [r0, #8]\n\t"
         "ldr r3, [r0, #12]\n\t"
         "push {r0, r3}\n"
         "1:\n\t"
         "ldr r8, [sp]\n\t"
         "ldr r0, [r8, #0]\n\t"
         "ldr.w r12, [r8, #4]\n\t"
         "ldr.w r4, [r8, #16]\n\t"
         "add r2, r1, #3\n\t"
         "mov r5, r4\n\t"
         "mov r6, r4\n\t"
         "mov r7, r4\n\t" ALL_PAIRS(PAIR_OF_EVERY_OTHER, "sub.w lr, r12, r0\n\t", "lr",
                                    "4") "ldrd r8, r9, [sp]\n\t"
                                         "ldr.w r3, [r8, #20]\n\t"
                                         "stmia r3!, {r4-r7}\n\t"
                                         "str.w r3, [r8, #20]\n\t"
                                         "adds r1, #8\n\t"
                                         "subs.w r9, r9, #1\n\t"
                                         "str.w r9, [sp, #4]\n\t"
                                         "bne 1b\n\t"
                                         "add sp, #8\n\t"
                                         "pop {r3-r11, pc}\n\t");

/* r0 taps, r1 in, r2-r5 sums of a filter's tile, r6-r9 of the other's, r10-lr work; the stack
 * has the struct, the end and the tiles left. Weights are fetched when they are due. */
#define PAIR_OF_TWO_FILTERS            \
    "ldr r10, [r0], #16\n\t"           \
    "ldr r11, [r0, #-12]\n\t"          \
    "ldr lr, [r0, #-8]\n\t"            \
    "ldr.w r10, [r1, r10]\n\t"         \
    "ldr.w r11, [r1, r11]\n\t"         \
    "pkhbt r12, r10, r11, lsl #16\n\t" \
    "pkhtb r11, r11, r10, asr #16\n\t" \
    "sxtb16 r10, r12\n\t"              \
    "sxtb16 r12, r12, ror #8\n\t"      \
    "smlad r2, lr, r10, r2\n\t"        \
    "smlad r3, lr, r12, r3\n\t"        \
    "ldr lr, [r0, #-4]\n\t"            \
    "smlad r6, lr, r10, r6\n\t"        \
    "smlad r7, lr, r12, r7\n\t"        \
    "sxtb16 r10, r11\n\t"              \
    "sxtb16 r11, r11, ror #8\n\t"      \
    "smlad r8, lr, r10, r8\n\t"        \
    "smlad r9, lr, r11, r9\n\t"        \
    "ldr lr, [r0, #-8]\n\t"            \
    "smlad r4, lr, r10, r4\n\t"        \
    "smlad r5, lr, r11, r5\n\t"

FUNCTION("zs_conv_tiles_of_two_filters",
         "push {r4-r11, lr}\n\t"
         "ldr r1, [r0, #8]\n\t"
         "ldr r2, [r0, #12]\n\t"
         "ldr r3, [r0, #4]\n\t"
         "push {r0, r2, r3}\n"
         "1:\n\t"
         "ldr r10, [sp]\n\t"
         "ldr r0, [r10, #0]\n\t"
         "ldrd r2, r6, [r10, #16]\n\t"
         "mov r3, r2\n\t"
         "mov r4, r2\n\t"
         "mov r5, r2\n\t"
         "mov r7, r6\n\t"
         "mov r8, r6\n\t"
         "mov r9, r6\n\t" ALL_PAIRS(PAIR_OF_TWO_FILTERS,
                                    "ldr.w lr, [sp, #8]\n\tsub.w lr, lr, r0\n\t", "lr",
                                    "16") "ldr r10, [sp]\n\t"
                                          "ldrd r11, r12, [r10, #24]\n\t"
                                          "stmia r11!, {r2-r5}\n\t"
                                          "stmia r12!, {r6-r9}\n\t"
                                          "strd r11, r12, [r10, #24]\n\t"
                                          "ldr r2, [sp, #4]\n\t"
                                          "adds r1, #4\n\t"
                                          "subs r2, #1\n\t"
                                          "str r2, [sp, #4]\n\t"
                                          "bne 1b\n\t"
                                          "add sp, #12\n\t"
                                          "pop {r4-r11, pc}\n\t");

/* Sums of n >= TILE pixels whose input elements are `step` apart. The last tile may overlap the
 * one before. */
static inline void tiles(const struct tap *taps, int32_t n, const int8_t *in, int32_t step,
                         uint32_t start, uint32_t *sums, int32_t pixels)
{
    struct tiles all = { taps, taps + (n + 1) / 2, in, pixels / TILE, start, sums };
    if (step <= 2) {
        void (*const run)(const struct tiles *) =
            step == 1 ? zs_conv_tiles_of_neighbours : zs_conv_tiles_of_every_other;
        run(&all);
        if (pixels % TILE != 0) {
            all.in = in + step * (pixels - TILE);
            all.sums = sums + pixels - TILE;
            all.count = 1;
            run(&all);
        }
        return;
    }
    for (int32_t i = 0; i < pixels; i += TILE) {
        i = i > pixels - TILE ? pixels - TILE : i;
        const int8_t *x = in + i * step;
        uint32_t a0 = start, a1 = start, a2 = start, a3 = start;
        for (const struct tap *tap = taps; tap < all.end; tap++) {
            const int8_t *a = x + tap->a;
            const int8_t *b = x + tap->b;
            const int32_t weight_a = (int16_t)tap->weights;
            const int32_t weight_b = (int32_t)tap->weights >> 16;
            a0 += (uint32_t)(weight_a * a[0] + weight_b * b[0]);
            a1 += (uint32_t)(weight_a * a[step] + weight_b * b[step]);
            a2 += (uint32_t)(weight_a * a[2 * step] + weight_b * b[2 * step]);
            a3 += (uint32_t)(weight_a * a[3 * step] + weight_b * b[3 * step]);
        }
        sums[i] = a0;
        sums[i + 1] = a1;
        sums[i + 2] = a2;
        sums[i + 3] = a3;
    }
}

static inline uint32_t pixel(const struct tap *taps, int32_t n, const int8_t *in, uint32_t sum)
{
    const struct tap *end = taps + (n + 1) / 2;
    for (; taps < end; taps++) {
        sum += (uint32_t)((int16_t)taps->weights * in[taps->a]
                          + ((int32_t)taps->weights >> 16) * in[taps->b]);
    }
    return sum;
}

#endif
