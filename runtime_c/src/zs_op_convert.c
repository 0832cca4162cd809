/* zs_op_convert.c - between float32, int8 and uint8. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"
#include "zs_math.h"

#if ZS_OP_CONVERT

static enum zs_status check(const struct zs_reader *r, const struct zs_tensor *in,
                            const struct zs_tensor *out, float scale)
{
    const bool flip = in->dtype != ZS_FLOAT32 && out->dtype != ZS_FLOAT32;
    const bool in_place = flip && in->location == out->location && in->size == out->size;
    if (!zs_reader_ok(r) || in->constant || out->constant || in->dtype == out->dtype
        || in->count != out->count || !(scale > 0.0f)
        || (!in_place && zs_tensor_overlaps(in, out->location, out->size))) {
        return ZS_ERR_FORMAT;
    }
    return ZS_OK;
}

enum zs_status zs_op_convert(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct zs_tensor in;
    struct zs_tensor out;
    zs_tensor_read(ctx, r, &in);
    zs_tensor_read(ctx, r, &out);
    const float scale = zs_read_finite(r);
    if (ctx->arena == NULL) {
        return check(r, &in, &out, scale);
    }
    const void *from = zs_tensor_input(ctx, &in);
    void *to = zs_tensor_output(ctx, &out);
    const int32_t low = out.dtype == ZS_INT8 ? -128 : 0;
    for (uint32_t i = 0; i < in.count; i++) {
        if (in.dtype == ZS_FLOAT32) {
            const int32_t q = zs_round_f32(((const float *)from)[i] / scale, low - out.zero_point,
                                           low + 255 - out.zero_point);
            ((uint8_t *)to)[i] = (uint8_t)(q + out.zero_point);
        } else if (out.dtype == ZS_FLOAT32) {
            const int32_t q =
                in.dtype == ZS_INT8 ? ((const int8_t *)from)[i] : ((const uint8_t *)from)[i];
            ((float *)to)[i] = scale * (float)(q - in.zero_point);
        } else {
            ((uint8_t *)to)[i] = ((const uint8_t *)from)[i] ^ 0x80;
        }
    }
    return ZS_OK;
}

#endif
