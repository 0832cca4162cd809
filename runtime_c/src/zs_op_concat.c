/* zs_op_concat.c - joining along an axis. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"

#if ZS_OP_CONCAT

/* Elements before and after the axis: a tensor is `outer` runs of dims[axis] * `inner`. */
static void split(const struct zs_tensor *t, unsigned axis, uint32_t *outer, uint32_t *inner)
{
    *outer = 1;
    *inner = 1;
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        *outer *= i < axis ? t->dims[i] : 1;
        *inner *= i > axis ? t->dims[i] : 1;
    }
}

static bool fits(const struct zs_tensor *in, const struct zs_tensor *out, unsigned axis)
{
    if (in->dtype != out->dtype || in->rank != out->rank
        || zs_tensor_overlaps(in, out->location, out->size)) {
        return false;
    }
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        if (i != axis && in->dims[i] != out->dims[i]) {
            return false;
        }
    }
    return true;
}

enum zs_status zs_op_concat(struct zs_ctx *ctx, struct zs_reader *r)
{
    const uint8_t count = zs_reader_u8(r);
    struct zs_reader inputs = *r;
    struct zs_tensor in;
    struct zs_tensor out;
    for (unsigned i = 0; i < count; i++) {
        (void)zs_reader_var(r);
    }
    zs_tensor_read(ctx, r, &out);
    const unsigned axis = zs_reader_u8(r);
    if (ctx->arena == NULL) {
        if (!zs_reader_ok(r) || count == 0 || out.constant || axis >= out.rank) {
            return ZS_ERR_FORMAT;
        }
        uint32_t joined = 0;
        for (unsigned i = 0; i < count; i++) {
            zs_tensor_read(ctx, &inputs, &in);
            if (!zs_reader_ok(&inputs) || !fits(&in, &out, axis)) {
                return ZS_ERR_FORMAT;
            }
            joined += in.dims[axis];
        }
        return joined == out.dims[axis] ? ZS_OK : ZS_ERR_FORMAT;
    }
    const uint32_t size = out.dtype == ZS_FLOAT32 ? 4 : 1;
    uint32_t outer;
    uint32_t inner;
    split(&out, axis, &outer, &inner);
    const uint32_t stride = out.dims[axis] * inner * size;
    uint8_t *to = zs_tensor_output(ctx, &out);
    for (unsigned i = 0; i < count; i++) {
        zs_tensor_read(ctx, &inputs, &in);
        const uint8_t *from = zs_tensor_input(ctx, &in);
        const uint32_t run = in.dims[axis] * inner * size;
        for (uint32_t j = 0; j < outer; j++) {
            memcpy(to + j * stride, from + j * run, run);
        }
        to += run;
    }
    return ZS_OK;
}

#endif
