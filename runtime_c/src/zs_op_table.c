/* zs_op_table.c - any int8 function, as a table. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"

#if ZS_OP_TABLE

enum zs_status zs_op_table(struct zs_ctx *ctx, struct zs_reader *r)
{
    struct zs_tensor in;
    struct zs_tensor out;
    zs_tensor_read(ctx, r, &in);
    zs_tensor_read(ctx, r, &out);
    const uint8_t *table = zs_data(ctx, r, zs_reader_var(r), 256);
    if (ctx->arena == NULL) {
        return zs_reader_ok(r) && zs_check_unary(&in, &out, true) && in.dtype == ZS_INT8
                       && in.count == out.count
                   ? ZS_OK
                   : ZS_ERR_FORMAT;
    }
    const uint8_t *from = zs_tensor_input(ctx, &in);
    uint8_t *to = zs_tensor_output(ctx, &out);
    for (uint32_t i = 0; i < in.count; i++) {
        to[i] = table[from[i] ^ 0x80];
    }
    return ZS_OK;
}

#endif
