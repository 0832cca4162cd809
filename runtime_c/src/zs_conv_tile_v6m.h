/*
 * zs_conv_tile_v6m.h - tiles of int8 pixels for ARMv6-M (Cortex-M0 and M0+).
 *
 * Signed bytes are loaded with a register as offset only: four registers hold
 * where the tile's pixels start, so that a tap's offset serves all. Sums are in
 * high registers, which can be added to and nothing else. No compiler does it so.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_TILE_V6M_H
#define ZS_CONV_TILE_V6M_H

/* Tiles that follow each other in a row. The assembly knows where each member is. */
struct tiles {
    const struct tap *taps, *end;
    const int8_t *in;
    int32_t count;
    uint32_t start;
    uint32_t *sums; /* 4 for each tile */
    int32_t step;   /* between pixels in the input */
};

void zs_conv_tiles_v6m(struct tiles *tiles);

/* r0 taps, r4-r7 in of each pixel, r8-r11 their sums, r12 end, lr the struct. */
#define TAP                   \
    "ldmia r0!, {r1, r2}\n\t" \
    "ldrsb r3, [r4, r1]\n\t"  \
    "muls r3, r2\n\t"         \
    "add r8, r3\n\t"          \
    "ldrsb r3, [r5, r1]\n\t"  \
    "muls r3, r2\n\t"         \
    "add r9, r3\n\t"          \
    "ldrsb r3, [r6, r1]\n\t"  \
    "muls r3, r2\n\t"         \
    "add r10, r3\n\t"         \
    "ldrsb r3, [r7, r1]\n\t"  \
    "muls r3, r2\n\t"         \
    "add r11, r3\n\t"

__asm__(".syntax unified\n\t.thumb\n\t"
        ".section .text.zs_conv_tiles_v6m,\"ax\",%progbits\n\t.balign 4\n\t"
        ".global zs_conv_tiles_v6m\n\t.type zs_conv_tiles_v6m, %function\n\t"
        ".thumb_func\nzs_conv_tiles_v6m:\n\t"
        "push {r4-r7, lr}\n\t"
        "mov r4, r8\n\t"
        "mov r5, r9\n\t"
        "mov r6, r10\n\t"
        "mov r7, r11\n\t"
        "push {r4-r7}\n\t"
        "mov lr, r0\n\t"
        "ldr r1, [r0, #4]\n\t"
        "mov r12, r1\n\t"
        "ldr r4, [r0, #8]\n\t"
        "ldr r1, [r0, #24]\n\t"
        "adds r5, r4, r1\n\t"
        "adds r6, r5, r1\n\t"
        "adds r7, r6, r1\n"
        "1:\n\t"
        "mov r1, lr\n\t"
        "ldr r0, [r1, #0]\n\t"
        "ldr r2, [r1, #16]\n\t"
        "mov r8, r2\n\t"
        "mov r9, r2\n\t"
        "mov r10, r2\n\t"
        "mov r11, r2\n\t"
        "mov r3, r12\n\t"
        "subs r3, r3, r0\n\t"
        "beq 4f\n\t"
        "lsls r3, r3, #28\n\t" /* an odd number of taps: the first is the second of two */
        "bmi 3f\n"
        "2:\n\t" TAP "3:\n\t" TAP "cmp r0, r12\n\t"
        "bne 2b\n"
        "4:\n\t"
        "mov r1, lr\n\t"
        "ldr r3, [r1, #20]\n\t"
        "mov r0, r8\n\t"
        "mov r2, r9\n\t"
        "stmia r3!, {r0, r2}\n\t"
        "mov r0, r10\n\t"
        "mov r2, r11\n\t"
        "stmia r3!, {r0, r2}\n\t"
        "str r3, [r1, #20]\n\t"
        "ldr r2, [r1, #24]\n\t"
        "lsls r2, r2, #2\n\t"
        "adds r4, r4, r2\n\t"
        "adds r5, r5, r2\n\t"
        "adds r6, r6, r2\n\t"
        "adds r7, r7, r2\n\t"
        "ldr r0, [r1, #12]\n\t"
        "subs r0, #1\n\t"
        "str r0, [r1, #12]\n\t"
        "bne 1b\n\t"
        "pop {r4-r7}\n\t"
        "mov r8, r4\n\t"
        "mov r9, r5\n\t"
        "mov r10, r6\n\t"
        "mov r11, r7\n\t"
        "pop {r4-r7, pc}\n\t"
        ".size zs_conv_tiles_v6m, . - zs_conv_tiles_v6m\n\t.text\n");

/* Sums of lines, `next` apart, of n >= TILE pixels whose input elements are `step` apart. The last
 * tile of a line may overlap the one before. */
static inline void tiles(const struct tap *taps, int32_t n, const int8_t *in, int32_t step,
                         uint32_t start, uint32_t *sums, int32_t pixels, int32_t lines,
                         int32_t next)
{
    for (; lines > 0; lines--, in += next, sums += pixels) {
        struct tiles all = { taps, taps + n, in, pixels / TILE, start, sums, step };
        zs_conv_tiles_v6m(&all);
        if (pixels % TILE != 0) {
            const int32_t last = pixels - TILE;
            all = (struct tiles){ taps, taps + n, in + step * last, 1, start, sums + last, step };
            zs_conv_tiles_v6m(&all);
        }
    }
}

#endif
