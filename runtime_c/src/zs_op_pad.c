/* zs_op_pad.c - padding with a constant, and cutting out. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"

#if ZS_OP_PAD || ZS_OP_SLICE

#if defined(__ARM_ARCH_6M__) /* no unaligned accesses */
#define MAY_USE_WORDS(a, b) ((((uintptr_t)(a) | (uintptr_t)(b)) & 3) == 0)
#define WORD(p) __builtin_assume_aligned((p), 4)
#else
#define MAY_USE_WORDS(a, b) true
#define WORD(p) (p)
#endif

static inline uint32_t load_word(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, WORD(p), sizeof word);
    return word;
}

static inline void store_word(uint8_t *p, uint32_t word)
{
    memcpy(WORD(p), &word, sizeof word);
}

/* Words of 4, then bytes: C libraries for small cores copy single bytes. Loads that follow each
 * other are fast. */
static void copy(uint8_t *to, const uint8_t *from, uint32_t n)
{
    if (MAY_USE_WORDS(to, from)) {
        for (; n >= 16; n -= 16, to += 16, from += 16) {
            const uint32_t a = load_word(from), b = load_word(from + 4);
            const uint32_t c = load_word(from + 8), d = load_word(from + 12);
            store_word(to, a);
            store_word(to + 4, b);
            store_word(to + 8, c);
            store_word(to + 12, d);
        }
        for (; n >= 4; n -= 4, to += 4, from += 4) {
            store_word(to, load_word(from));
        }
    }
    for (; n > 0; n--) {
        *to++ = *from++;
    }
}

/* The smaller tensor of the two as a box in the larger one; axes aligned to the right, so that
 * rows are along the last one there is. */
struct box {
    uint32_t dims[ZS_MAX_RANK];
    uint32_t outer[ZS_MAX_RANK];
    uint32_t before[ZS_MAX_RANK];
};

/* Reads the elements before the box along each axis; fails unless it lies within. */
static void read_box(struct zs_reader *r, const struct zs_tensor *inner,
                     const struct zs_tensor *outer, struct box *box)
{
    const unsigned lead = ZS_MAX_RANK - inner->rank;
    if (inner->rank != outer->rank || inner->dtype != outer->dtype || inner->dtype == ZS_UINT8) {
        zs_reader_fail(r);
    }
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        box->dims[i] = i < lead ? 1 : inner->dims[i - lead];
        box->outer[i] = i < lead ? 1 : outer->dims[i - lead];
        box->before[i] = i < lead ? 0 : zs_reader_var(r);
        if ((uint64_t)box->before[i] + box->dims[i] > box->outer[i]) {
            zs_reader_fail(r);
        }
    }
}

/* The first element of the box at i, j on the first axes, counted in the larger tensor. */
static inline uint32_t first_of(const struct box *b, uint32_t i, uint32_t j)
{
    const uint32_t plane = (i + b->before[0]) * b->outer[1] + j + b->before[1];
    return (plane * b->outer[2] + b->before[2]) * b->outer[3] + b->before[3];
}

static inline uint32_t size_of(const struct zs_tensor *tensor)
{
    return tensor->dtype == ZS_FLOAT32 ? 4 : 1;
}

#endif

#if ZS_OP_PAD

static void fill(uint8_t *to, uint32_t word, uint32_t n)
{
    for (; n > 0 && !MAY_USE_WORDS(to, 0); n--) {
        *to++ = (uint8_t)word; /* words of different bytes are aligned */
    }
    for (; n >= 16; n -= 16, to += 16) {
        store_word(to, word);
        store_word(to + 4, word);
        store_word(to + 8, word);
        store_word(to + 12, word);
    }
    for (; n >= 4; n -= 4, to += 4) {
        store_word(to, word);
    }
    for (; n > 0; n--) {
        *to++ = (uint8_t)word;
    }
}

/* The input may lie at the end of the output: what is written then never gets ahead of what is
 * read, as the elements keep their order and only padding comes between them. */
static bool ends_within(const struct zs_tensor *in, const struct zs_tensor *out)
{
    return in->location >= out->location && in->location + in->size >= out->location + out->size;
}

enum zs_status zs_op_pad(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct zs_tensor in;
    struct zs_tensor out;
    struct box box;
    zs_tensor_read(ctx, r, &in);
    zs_tensor_read(ctx, r, &out);
    read_box(r, &in, &out, &box);
    uint32_t word;
    if (in.dtype == ZS_FLOAT32) {
        const float value = zs_reader_f32(r);
        memcpy(&word, &value, 4);
    } else {
        const int32_t value = zs_reader_svar(r);
        if (value < -128 || value > 127) {
            zs_reader_fail(r);
        }
        word = (uint32_t)(uint8_t)value * 0x01010101u;
    }
    const bool overlap = zs_tensor_overlaps(&in, out.location, out.size);
    if (ctx->arena == NULL) {
        const bool apart = !overlap || ends_within(&in, &out);
        return zs_reader_ok(r) && !in.constant && !out.constant && apart ? ZS_OK : ZS_ERR_FORMAT;
    }
    const uint8_t *from = zs_tensor_input(ctx, &in);
    uint8_t *begin = zs_tensor_output(ctx, &out);
    uint8_t *done = begin;
    const uint32_t size = size_of(&in);
    const uint32_t run = box.dims[3] * size;
    if (!overlap) { /* at once, which is faster */
        fill(begin, word, out.size);
    }
    for (uint32_t i = 0; i < box.dims[0]; i++) {
        for (uint32_t j = 0; j < box.dims[1]; j++) {
            uint8_t *to = begin + first_of(&box, i, j) * size;
            for (uint32_t k = 0; k < box.dims[2]; k++) {
                if (overlap) {
                    fill(done, word, (uint32_t)(to - done));
                }
                copy(to, from, run);
                done = to + run;
                from += run;
                to += box.outer[3] * size;
            }
        }
    }
    if (overlap) {
        fill(done, word, (uint32_t)(begin + out.size - done));
    }
    return ZS_OK;
}

#endif

#if ZS_OP_SLICE

enum zs_status zs_op_slice(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct zs_tensor in;
    struct zs_tensor out;
    struct box box;
    zs_tensor_read(ctx, r, &in);
    zs_tensor_read(ctx, r, &out);
    read_box(r, &out, &in, &box);
    if (ctx->arena == NULL) {
        return zs_reader_ok(r) && zs_check_unary(&in, &out, false) ? ZS_OK : ZS_ERR_FORMAT;
    }
    const uint8_t *begin = zs_tensor_input(ctx, &in);
    uint8_t *to = zs_tensor_output(ctx, &out);
    const uint32_t size = size_of(&in);
    const uint32_t run = box.dims[3] * size;
    for (uint32_t i = 0; i < box.dims[0]; i++) {
        for (uint32_t j = 0; j < box.dims[1]; j++) {
            const uint8_t *from = begin + first_of(&box, i, j) * size;
            for (uint32_t k = 0; k < box.dims[2]; k++) {
                copy(to, from, run);
                to += run;
                from += box.outer[3] * size;
            }
        }
    }
    return ZS_OK;
}

#endif
