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
    if (size == 1) {
        memset(out, p.value, p.out.size);
    } else {
        for (uint32_t i = 0; i < p.out.count; i++) {
            ((float *)out)[i] = p.value_f32;
        }
    }
    const uint32_t run = p.in.dims[3] * size;
    for (uint32_t i = 0; i < p.in.dims[0]; i++) {
        for (uint32_t j = 0; j < p.in.dims[1]; j++) {
            for (uint32_t k = 0; k < p.in.dims[2]; k++) {
                uint32_t to = (i + p.before[0]) * p.out.dims[1] + j + p.before[1];
                to = (to * p.out.dims[2] + k + p.before[2]) * p.out.dims[3] + p.before[3];
                memcpy((uint8_t *)out + to * size, in, run);
                in += run;
            }
        }
    }
    return ZS_OK;
}

#endif
