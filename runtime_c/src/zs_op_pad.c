/* zs_op_pad.c - padding with a constant. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"

#if ZS_OP_PAD

struct pad {
    struct zs_tensor in, out;
    uint32_t before[ZS_MAX_RANK];
    int32_t value;
    float value_f32;
};

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct pad *p)
{
    zs_tensor_read(ctx, r, &p->in);
    zs_tensor_read(ctx, r, &p->out);
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        p->before[i] = i < p->in.rank ? zs_reader_var(r) : 0;
    }
    p->value = 0;
    p->value_f32 = 0.0f;
    if (p->in.dtype == ZS_FLOAT32) {
        p->value_f32 = zs_reader_f32(r);
    } else {
        p->value = zs_reader_svar(r);
    }
}

static enum zs_status check(const struct zs_reader *r, const struct pad *p)
{
    if (!zs_reader_ok(r) || !zs_check_unary(&p->in, &p->out, false) || p->in.rank != p->out.rank
        || p->value < -128 || p->value > 127) {
        return ZS_ERR_FORMAT;
    }
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        if ((uint64_t)p->before[i] + p->in.dims[i] > p->out.dims[i]) {
            return ZS_ERR_FORMAT;
        }
    }
    return ZS_OK;
}

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

enum zs_status zs_op_pad(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct pad p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return check(r, &p);
    }
    const uint8_t *in = zs_tensor_input(ctx, &p.in);
    void *out = zs_tensor_output(ctx, &p.out);
    const uint32_t size = p.in.dtype == ZS_FLOAT32 ? 4 : 1;
    uint32_t word = (uint32_t)(uint8_t)p.value * 0x01010101u;
    if (size == 4) {
        memcpy(&word, &p.value_f32, 4);
    }
    fill(out, word, p.out.size);
    /* Axes aligned to the right, so that runs are along the last one there is. */
    const unsigned lead = ZS_MAX_RANK - p.in.rank;
    uint32_t in_dims[ZS_MAX_RANK] = { 1, 1, 1, 1 };
    uint32_t out_dims[ZS_MAX_RANK] = { 1, 1, 1, 1 };
    uint32_t before[ZS_MAX_RANK] = { 0 };
    for (unsigned i = lead; i < ZS_MAX_RANK; i++) {
        in_dims[i] = p.in.dims[i - lead];
        out_dims[i] = p.out.dims[i - lead];
        before[i] = p.before[i - lead];
    }
    const uint32_t run = in_dims[3] * size;
    for (uint32_t i = 0; i < in_dims[0]; i++) {
        for (uint32_t j = 0; j < in_dims[1]; j++) {
            for (uint32_t k = 0; k < in_dims[2]; k++) {
                uint32_t to = (i + before[0]) * out_dims[1] + j + before[1];
                to = (to * out_dims[2] + k + before[2]) * out_dims[3] + before[3];
                copy((uint8_t *)out + to * size, in, run);
                in += run;
            }
        }
    }
    return ZS_OK;
}

#endif
