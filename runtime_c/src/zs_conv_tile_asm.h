/*
 * zs_conv_tile_asm.h - what tiles in assembly for ARMv7-M and ARMv7E-M have in
 * common. Wants struct tap, pixel(), and for zs_conv_tiles_of_neighbours() and
 * zs_conv_tiles_of_every_other():
 *     TURNS(n)                            elements of the list that n taps take
 *     NEIGHBOURS_ENTRY(turns), EVERY_OTHER_ENTRY(turns)   see ENTRY
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_TILE_ASM_H
#define ZS_CONV_TILE_ASM_H

/* Lines of tiles that follow each other. The assembly knows where each member is. */
struct tiles {
    const struct tap *taps, *end;
    const int8_t *in;
    int32_t count; /* in a line */
    uint32_t start;
    uint32_t *sums; /* 4 for each tile */
    uint32_t entry; /* see ENTRY */
    int32_t lines;  /* counted down */
    int32_t skip;   /* from behind a line to the next in the input */
};

/*
 * Loops take four pairs of taps a turn, or two, and are entered so that they
 * end with a whole turn: ENTRY gives the bytes of code to skip. No list may be
 * empty.
 */
#define ENTRY(pairs, a_turn, pair_bytes) (((0u - (uint32_t)(pairs)) & ((a_turn)-1u)) * (pair_bytes))

/* Input elements of the 4 pixels of a tile are next to each other, or every other one. */
void zs_conv_tiles_of_neighbours(struct tiles *tiles);
void zs_conv_tiles_of_every_other(struct tiles *tiles);

/* clang-format off */

#define FUNCTION(name, body)                                            \
    __asm__(".syntax unified\n\t.thumb\n\t"                             \
            ".section .text." name ",\"ax\",%progbits\n\t.balign 4\n\t" \
            ".global " name "\n\t.type " name ", %function\n\t"         \
            ".thumb_func\n" name ":\n\t" body ".size " name ", . - " name "\n\t.text\n")

/* Push where to enter the loop; the struct in r0 has the skip at `entry`. */
#define PUSH_ENTRY(entry)   \
    "ldr.w r4, [r0, " entry "]\n\t" \
    "adr.w r5, 3f\n\t"      \
    "adds r5, #1\n\t"       \
    "add.w r5, r5, r4\n\t"  \
    "push {r5}\n\t"

/* Run `turn` for all pairs of taps; `enter` gives the stack's word with the entry and `compare`
 * whether this was the last. */
#define FOUR(pair) pair pair pair pair
#define ALL_PAIRS(enter, turn, compare) \
    "ldr.w pc, " enter "\n\t"           \
    ".balign 4\n3:\n\t"                 \
    turn compare                        \
    "bne.w 3b\n\t"

/* clang-format on */

/* Sums of lines, `next` apart, of n >= TILE pixels whose input elements are `step` apart. The last
 * tile of a line may overlap the one before. */
static inline void tiles(const struct tap *taps, int32_t n, const int8_t *in, int32_t step,
                         uint32_t start, uint32_t *sums, int32_t pixels, int32_t lines,
                         int32_t next)
{
    const int32_t turns = TURNS(n);
    if (turns == 0 || step > 2) {
        for (; lines > 0; lines--, in += next) {
            for (int32_t i = 0; i < pixels; i++) {
                *sums++ = pixel(taps, n, in + i * step, start);
            }
        }
        return;
    }
    void (*const run)(struct tiles *) =
        step == 1 ? zs_conv_tiles_of_neighbours : zs_conv_tiles_of_every_other;
    const int32_t rest = pixels % TILE;
    struct tiles all = { taps, taps + turns, in, pixels / TILE, start, sums, 0, lines, 0 };
    all.entry = step == 1 ? NEIGHBOURS_ENTRY(turns) : EVERY_OTHER_ENTRY(turns);
    all.skip = next - step * (pixels - rest);
    if (rest == 0) {
        run(&all);
        return;
    }
    for (; lines > 0; lines--, in += next, sums += pixels) {
        all.lines = 1;
        all.count = pixels / TILE;
        all.in = in;
        all.sums = sums;
        run(&all);
        all.lines = 1;
        all.count = 1;
        all.in = in + step * (pixels - TILE);
        all.sums = sums + pixels - TILE;
        run(&all);
    }
}

#endif
