/* zs_op_transpose.c - permuting axes. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"

#if ZS_OP_TRANSPOSE

struct transpose {
    struct zs_tensor in, out;
    uint32_t stride[ZS_MAX_RANK]; /* in the input, of the output's axes */
};

static void parse(const struct zs_ctx *ctx, struct zs_reader *r, struct transpose *p)
{
    uint32_t strides[ZS_MAX_RANK];
    unsigned seen = 0;
    zs_tensor_read(ctx, r, &p->in);
    zs_tensor_read(ctx, r, &p->out);
    uint32_t stride = 1;
    for (unsigned i = ZS_MAX_RANK; i-- > 0;) {
        strides[i] = stride;
        stride *= p->in.dims[i];
    }
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        const unsigned axis = i < p->in.rank ? zs_reader_u8(r) : i;
        p->stride[i] = 0;
        if (axis >= ZS_MAX_RANK || (seen >> axis & 1) != 0 || p->in.dims[axis] != p->out.dims[i]) {
            zs_reader_fail(r);
            return;
        }
        seen |= 1u << axis;
        p->stride[i] = strides[axis];
    }
}

/* Bytes `step` apart. */
static ZS_NOINLINE void gather(uint8_t *out, const uint8_t *in, uint32_t step, uint32_t n)
{
    for (; n >= 4; n -= 4, out += 4, in += 4 * step) {
        const uint8_t *third = in + 2 * step;
        const uint8_t a = *in, b = in[step], c = *third, d = third[step];
        out[0] = a;
        out[1] = b;
        out[2] = c;
        out[3] = d;
    }
    for (; n > 0; n--, in += step) {
        *out++ = *in;
    }
}

static void copy(const struct transpose *p, const uint8_t *in, uint8_t *out, uint32_t size)
{
    /* Axes aligned to the right, so that the inner loop is along the last one there is. */
    const unsigned lead = ZS_MAX_RANK - p->out.rank;
    uint32_t dims[ZS_MAX_RANK] = { 1, 1, 1, 1 };
    uint32_t stride[ZS_MAX_RANK] = { 0 };
    for (unsigned i = lead; i < ZS_MAX_RANK; i++) {
        dims[i] = p->out.dims[i - lead];
        stride[i] = p->stride[i - lead];
    }
    for (uint32_t i = 0; i < dims[0]; i++) {
        for (uint32_t j = 0; j < dims[1]; j++) {
            for (uint32_t k = 0; k < dims[2]; k++) {
                const uint32_t row = i * stride[0] + j * stride[1] + k * stride[2];
                const uint8_t *from = in + row * size;
                const uint32_t step = stride[3] * size;
                const uint8_t *const end = out + dims[3] * size;
                if (size == 1) {
                    gather(out, from, step, dims[3]);
                    out += dims[3];
                } else {
                    for (; out < end; out += 4, from += step) {
                        memcpy(out, from, 4);
                    }
                }
            }
        }
    }
}

enum zs_status zs_op_transpose(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct transpose p;
    parse(ctx, r, &p);
    if (ctx->arena == NULL) {
        return zs_reader_ok(r) && zs_check_unary(&p.in, &p.out, false) && p.in.rank == p.out.rank
                   ? ZS_OK
                   : ZS_ERR_FORMAT;
    }
    copy(&p, zs_tensor_input(ctx, &p.in), zs_tensor_output(ctx, &p.out),
         p.in.dtype == ZS_FLOAT32 ? 4 : 1);
    return ZS_OK;
}

#endif
