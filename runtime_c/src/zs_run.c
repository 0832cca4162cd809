/* zs_run.c - walking the ops, and what they share. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"

void zs_tensor_read(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_tensor *tensor)
{
    uint32_t index = zs_reader_var(r);
    if (index >= ctx->model->tensor_count) {
        zs_reader_fail(r);
        *tensor = (struct zs_tensor){ .rank = 1, .dims = { 1, 1, 1, 1 }, .count = 1, .size = 1 };
        return;
    }
    zs_tensor_get(ctx->model, index, tensor);
}

const void *zs_tensor_input(const struct zs_ctx *ctx, const struct zs_tensor *tensor)
{
    return tensor->constant ? ctx->model->data + tensor->location : ctx->arena + tensor->location;
}

void *zs_tensor_output(const struct zs_ctx *ctx, const struct zs_tensor *tensor)
{
    return ctx->arena + tensor->location;
}

bool zs_tensor_overlaps(const struct zs_tensor *tensor, uint32_t location, uint32_t size)
{
    return !tensor->constant && tensor->location < location + size
           && location < tensor->location + tensor->size;
}

bool zs_spend(struct zs_ctx *ctx, uint64_t work)
{
    ctx->work += work;
    return work <= ZS_MAX_WORK && ctx->work <= ZS_MAX_TOTAL_WORK;
}

bool zs_has_kernels(enum zs_dtype dtype)
{
    return dtype == ZS_FLOAT32 ? ZS_FLOAT32_KERNELS : ZS_INT8_KERNELS;
}

bool zs_check_unary(const struct zs_tensor *in, const struct zs_tensor *out, bool in_place)
{
    if (in->constant || out->constant || in->dtype != out->dtype || in->dtype == ZS_UINT8) {
        return false;
    }
    if (in_place && in->location == out->location && in->size == out->size) {
        return true;
    }
    return !zs_tensor_overlaps(in, out->location, out->size);
}

bool zs_check_scratch(const struct zs_ctx *ctx, uint32_t location, uint64_t size,
                      const struct zs_tensor *in, const struct zs_tensor *out)
{
    return location % 4 == 0 && location <= ctx->model->arena_size
           && size <= ctx->model->arena_size - location
           && !zs_tensor_overlaps(in, location, (uint32_t)size)
           && !zs_tensor_overlaps(out, location, (uint32_t)size);
}

const uint8_t *zs_data(const struct zs_ctx *ctx, struct zs_reader *r, uint32_t offset,
                       uint32_t size)
{
    if (!zs_reader_ok(r) || offset > ctx->model->data_size
        || size > ctx->model->data_size - offset) {
        zs_reader_fail(r);
        return NULL;
    }
    return ctx->model->data + offset;
}

void zs_read_range_s8(struct zs_reader *r, int32_t *low, int32_t *high)
{
    *low = zs_reader_svar(r);
    *high = zs_reader_svar(r);
    if (*low < -128 || *low > *high || *high > 127) {
        zs_reader_fail(r);
    }
}

/* Whether a <= b, by their bits; not for NaN, nor for 0.0 before -0.0. */
static bool are_ordered(uint32_t a, uint32_t b)
{
    const bool numbers = (a & 0x7fffffffu) <= 0x7f800000u && (b & 0x7fffffffu) <= 0x7f800000u;
    const uint32_t key_a = a >> 31 != 0 ? ~a : a | 0x80000000u;
    const uint32_t key_b = b >> 31 != 0 ? ~b : b | 0x80000000u;
    return numbers && key_a <= key_b;
}

void zs_read_range_f32(struct zs_reader *r, float *low, float *high)
{
    const bool ordered =
        r->left >= 8 && are_ordered(zs_load_u32(r->next), zs_load_u32(r->next + 4));
    *low = zs_reader_f32(r);
    *high = zs_reader_f32(r);
    if (!ordered) {
        zs_reader_fail(r);
    }
}

float zs_read_finite(struct zs_reader *r)
{
    if (r->left >= 4 && !zs_bits_are_finite(zs_load_u32(r->next))) {
        zs_reader_fail(r);
    }
    return zs_reader_f32(r);
}

void zs_read_scale(struct zs_reader *r, int32_t *multiplier, int32_t *shift)
{
    *multiplier = zs_reader_svar(r);
    *shift = zs_reader_svar(r);
    if (*multiplier < 0 || *shift < -31 || *shift > 30) {
        zs_reader_fail(r);
    }
}

static enum zs_status dispatch(struct zs_ctx *ctx, uint8_t code, struct zs_reader *body)
{
    switch (code) {
#if ZS_OP_CONV
    case ZS_CODE_CONV: return zs_op_conv(ctx, body);
#endif
#if ZS_OP_FULLY_CONNECTED
    case ZS_CODE_FULLY_CONNECTED: return zs_op_fully_connected(ctx, body);
#endif
#if ZS_OP_BINARY
    case ZS_CODE_BINARY: return zs_op_binary(ctx, body);
#endif
#if ZS_OP_POOL
    case ZS_CODE_POOL: return zs_op_pool(ctx, body);
#endif
#if ZS_OP_MEAN
    case ZS_CODE_MEAN: return zs_op_mean(ctx, body);
#endif
#if ZS_OP_PAD
    case ZS_CODE_PAD: return zs_op_pad(ctx, body);
#endif
#if ZS_OP_CONCAT
    case ZS_CODE_CONCAT: return zs_op_concat(ctx, body);
#endif
#if ZS_OP_SOFTMAX
    case ZS_CODE_SOFTMAX: return zs_op_softmax(ctx, body);
#endif
#if ZS_OP_TABLE
    case ZS_CODE_TABLE: return zs_op_table(ctx, body);
#endif
#if ZS_OP_UNARY
    case ZS_CODE_UNARY: return zs_op_unary(ctx, body);
#endif
#if ZS_OP_CONVERT
    case ZS_CODE_CONVERT: return zs_op_convert(ctx, body);
#endif
#if ZS_OP_TRANSPOSE
    case ZS_CODE_TRANSPOSE: return zs_op_transpose(ctx, body);
#endif
#if ZS_OP_SLICE
    case ZS_CODE_SLICE: return zs_op_slice(ctx, body);
#endif
    default: return ZS_ERR_UNSUP;
    }
}

enum zs_status zs_walk(struct zs_ctx *ctx, const struct zs_hook *hook)
{
    struct zs_reader r = { .next = ctx->model->ops, .left = ctx->model->ops_size };
    for (unsigned i = 0; i < ctx->model->op_count; i++) {
        const uint8_t code = zs_reader_u8(&r);
        struct zs_reader body = zs_reader_sub(&r, zs_reader_var(&r));
        if (!zs_reader_ok(&r)) {
            return ZS_ERR_FORMAT;
        }
        if (hook != NULL && hook->before != NULL) {
            hook->before(hook->user, i);
        }
        ctx->macs = 0;
        const enum zs_status status = dispatch(ctx, code, &body);
        if (status != ZS_OK) {
            return status;
        }
        /* beside what it spent itself, an op visits each element of the arena once or so */
        if (ctx->arena == NULL && (body.left != 0 || !zs_spend(ctx, ctx->model->arena_size))) {
            return ZS_ERR_FORMAT;
        }
        if (hook != NULL && hook->after != NULL) {
            hook->after(hook->user, i, ctx->macs);
        }
    }
    return r.left < 4 ? ZS_OK : ZS_ERR_FORMAT;
}

enum zs_status zs_run(const struct zs_model *model, void *arena, size_t arena_size,
                      const struct zs_hook *hook)
{
    if (model == NULL || arena == NULL || (uintptr_t)arena % 4 != 0) {
        return ZS_ERR_ARG;
    }
    if (arena_size < model->arena_size) {
        return ZS_ERR_ARENA;
    }
    struct zs_ctx ctx = { .model = model, .arena = arena };
    return zs_walk(&ctx, hook);
}
