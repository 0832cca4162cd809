/*
 * zs_conv_tile_v7m.h - tiles of int8 pixels for ARMv7-M (Cortex-M3), which has
 * no multiplication of halfwords: a tap at a time. In assembly, because the
 * sums, bytes and pointers take all registers, and compilers spill.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_TILE_V7M_H
#define ZS_CONV_TILE_V7M_H

#define TURNS(n) (n)
#define NEIGHBOURS_ENTRY(taps) ENTRY(taps, 4, 40)
#define EVERY_OTHER_ENTRY(taps) ENTRY(taps, 4, 40)
#include "zs_conv_tile_asm.h"

/* clang-format off */

/* r0 taps, r2 end, r1, r3, r12, lr in of each pixel, r4-r7 their sums; the stack has the struct, the
 * tiles left, the sums and the entry. */
#define TAP                        \
    "ldr r8, [r0], #8\n\t"         \
    "ldr r9, [r0, #-4]\n\t"        \
    "ldrsb.w r10, [r1, r8]\n\t"    \
    "ldrsb.w r11, [r3, r8]\n\t"    \
    "mla r4, r9, r10, r4\n\t"      \
    "mla r5, r9, r11, r5\n\t"      \
    "ldrsb.w r10, [r12, r8]\n\t"   \
    "ldrsb.w r11, [lr, r8]\n\t"    \
    "mla r6, r9, r10, r6\n\t"      \
    "mla r7, r9, r11, r7\n\t"

/* Pixels whose input is at 0, x1, x2 and x3, and the next tile's at x4. */
#define TILES(name, x1, x2, x3, x4)                              \
    FUNCTION(name,                                               \
             "push {r4-r11, lr}\n\t"                             \
             PUSH_ENTRY("#24")                                   \
             "ldr r1, [r0, #8]\n\t"                              \
             "ldr r2, [r0, #12]\n\t"                             \
             "ldr r3, [r0, #20]\n\t"                             \
             "push {r0, r2, r3}\n\t"                             \
             "ldr r2, [r0, #4]\n"                                \
             "1:\n\t"                                            \
             "ldr.w r8, [sp]\n\t"                                \
             "ldr.w r0, [r8, #0]\n\t"                            \
             "ldr.w r4, [r8, #16]\n\t"                           \
             "add.w r3, r1, #" x1 "\n\t"                         \
             "add.w r12, r1, #" x2 "\n\t"                        \
             "add.w lr, r1, #" x3 "\n\t"                         \
             "mov r5, r4\n\t"                                    \
             "mov r6, r4\n\t"                                    \
             "mov r7, r4\n\t"                                    \
             ALL_PAIRS("[sp, #12]", FOUR(TAP), "cmp.w r0, r2\n\t") \
             "ldrd r8, r9, [sp, #4]\n\t"                         \
             "stmia.w r9!, {r4-r7}\n\t"                          \
             "adds r1, #" x4 "\n\t"                              \
             "subs.w r8, r8, #1\n\t"                             \
             "strd r8, r9, [sp, #4]\n\t"                         \
             "bne 1b\n\t"                                        \
             "ldr r0, [sp]\n\t"                                  \
             "ldrd r8, r9, [r0, #28]\n\t"                        \
             "ldr r4, [r0, #12]\n\t"                             \
             "add r1, r9\n\t"                                    \
             "str r4, [sp, #4]\n\t"                              \
             "subs.w r8, r8, #1\n\t"                             \
             "str.w r8, [r0, #28]\n\t"                           \
             "bne 1b\n\t"                                        \
             "add sp, #16\n\t"                                   \
             "pop {r4-r11, pc}\n\t")

TILES("zs_conv_tiles_of_neighbours", "1", "2", "3", "4");
TILES("zs_conv_tiles_of_every_other", "2", "4", "6", "8");

/* clang-format on */

#endif
