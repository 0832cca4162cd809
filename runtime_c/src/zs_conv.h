/*
 * zs_conv.h - parameters of a convolution, internal to zs_op_conv.c and its
 * kernels.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONV_H
#define ZS_CONV_H

#include "zs_weights.h"

struct zs_conv {
    struct zs_tensor in, out;
    uint32_t kernel_h, kernel_w;
    uint32_t stride_y, stride_x;
    uint32_t dilation_y, dilation_x;
    uint32_t pad_top, pad_left;
    uint32_t groups;
    struct zs_weights weights;
    struct zs_output_stage stage;
    uint32_t scratch; /* offset in the arena */
    bool pointwise;
    /* Sizes the kernels loop over: in.dims, out.dims with a pointwise image as one row. */
    int32_t channels, in_h, in_w, out_channels, out_h, out_w;
};

/* Bytes of scratch, see FORMAT.md. */
uint64_t zs_conv_scratch_size(const struct zs_conv *p);

void zs_conv_s8(struct zs_ctx *ctx, const struct zs_conv *p);
void zs_conv_f32(struct zs_ctx *ctx, const struct zs_conv *p);

#endif
