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

#include "zs_conv_pairs.h"

#define TURNS(n) (((n) + 1) / 2)
#define NEIGHBOURS_ENTRY(pairs) ENTRY(pairs, 4, 60)
#define EVERY_OTHER_ENTRY(pairs) ENTRY(pairs, 2, 76)
#define TWO_FILTERS_ENTRY(pairs) ENTRY(pairs, 4, 84)
#define EVERY_OTHER_OF_TWO_ENTRY(pairs) ENTRY(pairs, 4, 112)
#include "zs_conv_tile_asm.h"

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
    uint32_t entry;
};

void zs_conv_tiles_of_two_filters(const struct tiles_of_two *tiles);
void zs_conv_every_other_of_two_filters(const struct tiles_of_two *tiles);

/* clang-format off */

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
         PUSH_ENTRY("#24")
         "mov lr, r0\n\t"
         "ldr r2, [r0, #4]\n\t"
         "ldr r1, [r0, #8]\n\t"
         "ldr.w r12, [r0, #12]\n\t"
         "ldr r3, [r0, #20]\n"
         "1:\n\t"
         "ldr.w r0, [lr, #0]\n\t"
         "ldr.w r4, [lr, #16]\n\t"
         "mov r5, r4\n\t"
         "mov r6, r4\n\t"
         "mov r7, r4\n\t"
         ALL_PAIRS("[sp]", FOUR(PAIR_OF_NEIGHBOURS), "cmp.w r0, r2\n\t")
         "stmia r3!, {r4-r7}\n\t"
         "adds r1, #4\n\t"
         "subs r12, r12, #1\n\t"
         "bne 1b\n\t"
         "ldrd r8, r9, [lr, #28]\n\t"
         "ldr.w r12, [lr, #12]\n\t"
         "add r1, r9\n\t"
         "subs.w r8, r8, #1\n\t"
         "str.w r8, [lr, #28]\n\t"
         "bne 1b\n\t"
         "add sp, #4\n\t"
         "pop {r4-r11, pc}\n\t");

/* x0, x2 of (x0 ... x3) and x4, x6 of (x3 ... x6). r0 taps, r1 in, r2 in + 3, r12 end, r4-r7 sums
 * of the tile; the stack has the struct, the tiles left, the sums and the entry. */
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
         "push {r4-r11, lr}\n\t"
         PUSH_ENTRY("#24")
         "ldr r1, [r0, #8]\n\t"
         "ldr r2, [r0, #12]\n\t"
         "ldr r3, [r0, #20]\n\t"
         "ldr.w r12, [r0, #4]\n\t"
         "push {r0, r2, r3}\n"
         "1:\n\t"
         "ldr.w r8, [sp]\n\t"
         "ldr.w r0, [r8, #0]\n\t"
         "ldr.w r4, [r8, #16]\n\t"
         "add r2, r1, #3\n\t"
         "mov r5, r4\n\t"
         "mov r6, r4\n\t"
         "mov r7, r4\n\t"
         ALL_PAIRS("[sp, #12]", PAIR_OF_EVERY_OTHER PAIR_OF_EVERY_OTHER, "cmp.w r0, r12\n\t")
         "ldr r2, [sp, #4]\n\t"
         "ldr r3, [sp, #8]\n\t"
         "stmia r3!, {r4-r7}\n\t"
         "adds r1, #8\n\t"
         "subs r2, #1\n\t"
         "strd r2, r3, [sp, #4]\n\t"
         "bne 1b\n\t"
         "ldr r0, [sp]\n\t"
         "ldrd r2, r3, [r0, #28]\n\t"
         "ldr r4, [r0, #12]\n\t"
         "add r1, r3\n\t"
         "str r4, [sp, #4]\n\t"
         "subs r2, #1\n\t"
         "str r2, [r0, #28]\n\t"
         "bne 1b\n\t"
         "add sp, #16\n\t"
         "pop {r4-r11, pc}\n\t");

/* r0 taps, r1 in, r2-r5 sums of a filter's tile, r6-r9 of the other's, r10-lr work; the stack has
 * the struct, the tiles left, the end and the entry. Weights are fetched when they are due. */
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

/* r0 taps, r1 in, r2 in + 3, r3-r6 sums of a filter's tile, r7-r10 of the other's: half a tile. */
#define HALF_OF_TWO_FILTERS(in, rotate, s0, s1, t0, t1) \
    "ldr.w r11, [" in ", r11]\n\t"                      \
    "ldr.w r12, [" in ", r12]\n\t"                      \
    "sxtb16 r11, r11" rotate "\n\t"                     \
    "sxtb16 r12, r12" rotate "\n\t"                     \
    "pkhbt lr, r11, r12, lsl #16\n\t"                   \
    "pkhtb r12, r12, r11, asr #16\n\t"                  \
    "ldr r11, [r0, #-8]\n\t"                            \
    "smlad " s0 ", r11, lr, " s0 "\n\t"                 \
    "smlad " s1 ", r11, r12, " s1 "\n\t"                \
    "ldr r11, [r0, #-4]\n\t"                            \
    "smlad " t0 ", r11, lr, " t0 "\n\t"                 \
    "smlad " t1 ", r11, r12, " t1 "\n\t"

#define EVERY_OTHER_OF_TWO_FILTERS                        \
    "ldr r11, [r0], #16\n\t"                              \
    "ldr r12, [r0, #-12]\n\t"                             \
    HALF_OF_TWO_FILTERS("r1", "", "r3", "r4", "r7", "r8") \
    "ldr r11, [r0, #-16]\n\t"                             \
    "ldr r12, [r0, #-12]\n\t"                             \
    HALF_OF_TWO_FILTERS("r2", ", ror #8", "r5", "r6", "r9", "r10")

/* `start` puts the sums' starts, at 16 of the struct in r10, into the registers from s on. */
#define TILES_OF_TWO(name, start, pair, advance, s, t)                               \
    FUNCTION(name,                                                                  \
             "push {r4-r11, lr}\n\t"                                                \
             PUSH_ENTRY("#32")                                                      \
             "ldr r1, [r0, #8]\n\t"                                                 \
             "ldr r2, [r0, #12]\n\t"                                                \
             "ldr r3, [r0, #4]\n\t"                                                 \
             "push {r0, r2, r3}\n"                                                  \
             "1:\n\t"                                                               \
             "ldr.w r10, [sp]\n\t"                                                  \
             "ldr.w r0, [r10, #0]\n\t"                                              \
             start                                                                  \
             ALL_PAIRS("[sp, #12]", FOUR(pair), "ldr.w lr, [sp, #8]\n\tcmp.w r0, lr\n\t") \
             "ldr r0, [sp]\n\t"                                                     \
             "ldrd r11, r12, [r0, #24]\n\t"                                         \
             "stmia r11!, {" s "}\n\t"                                              \
             "stmia r12!, {" t "}\n\t"                                              \
             "strd r11, r12, [r0, #24]\n\t"                                         \
             "ldr r2, [sp, #4]\n\t"                                                 \
             "adds r1, #" advance "\n\t"                                            \
             "subs r2, #1\n\t"                                                      \
             "str r2, [sp, #4]\n\t"                                                 \
             "bne 1b\n\t"                                                           \
             "add sp, #16\n\t"                                                      \
             "pop {r4-r11, pc}\n\t")

TILES_OF_TWO("zs_conv_tiles_of_two_filters",
             "ldrd r2, r6, [r10, #16]\n\t"
             "mov r3, r2\n\t"
             "mov r4, r2\n\t"
             "mov r5, r2\n\t"
             "mov r7, r6\n\t"
             "mov r8, r6\n\t"
             "mov r9, r6\n\t",
             PAIR_OF_TWO_FILTERS, "4", "r2-r5", "r6-r9");

TILES_OF_TWO("zs_conv_every_other_of_two_filters",
             "add r2, r1, #3\n\t"
             "ldrd r3, r7, [r10, #16]\n\t"
             "mov r4, r3\n\t"
             "mov r5, r3\n\t"
             "mov r6, r3\n\t"
             "mov r8, r7\n\t"
             "mov r9, r7\n\t"
             "mov r10, r7\n\t",
             EVERY_OTHER_OF_TWO_FILTERS, "8", "r3-r6", "r7-r10");

/* clang-format on */

#endif
