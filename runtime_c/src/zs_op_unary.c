/* zs_op_unary.c - float32 activation functions. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"
#include "zs_math.h"

#if ZS_OP_UNARY

enum {
    KIND_CLAMP = 0,
    KIND_LEAKY_RELU = 1,
    KIND_SIGMOID = 2,
    KIND_TANH = 3,
    KIND_HARDSWISH = 4,
    KIND_COUNT = 5
};

static float apply(uint8_t kind, float x, float a, float b)
{
    switch (kind) {
    case KIND_LEAKY_RELU: return x < 0.0f ? x * a : x;
    case KIND_SIGMOID: return zs_sigmoid_f32(x);
    case KIND_TANH: return zs_tanh_f32(x);
    case KIND_HARDSWISH: return x * zs_clamp_f32(x + 3.0f, 0.0f, 6.0f) / 6.0f;
    default: return zs_clamp_f32(x, a, b);
    }
}

enum zs_status zs_op_unary(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct zs_tensor in;
    struct zs_tensor out;
    zs_tensor_read(ctx, r, &in);
    zs_tensor_read(ctx, r, &out);
    const uint8_t kind = zs_reader_u8(r);
    const float a = zs_reader_f32(r);
    const float b = zs_reader_f32(r);
    if (ctx->arena == NULL) {
        if (!ZS_FLOAT32_KERNELS) {
            return ZS_ERR_UNSUP;
        }
        return zs_reader_ok(r) && zs_check_unary(&in, &out, true) && in.dtype == ZS_FLOAT32
                       && in.count == out.count && kind < KIND_COUNT && !(a != a) && !(b != b)
                   ? ZS_OK
                   : ZS_ERR_FORMAT;
    }
    const float *from = zs_tensor_input(ctx, &in);
    float *to = zs_tensor_output(ctx, &out);
    for (uint32_t i = 0; i < in.count; i++) {
        to[i] = apply(kind, from[i], a, b);
    }
    return ZS_OK;
}

#endif
