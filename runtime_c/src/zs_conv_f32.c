/* zs_conv_f32.c - float32 convolution, portable. SPDX-License-Identifier: Apache-2.0 */
#include "zs_conv.h"
#include "zs_math.h"

#if ZS_OP_CONV && ZS_FLOAT32_KERNELS

typedef float element_t;
typedef float weight_t;
typedef float sum_t;

static inline sum_t multiply_add(sum_t sum, weight_t weight, float x)
{
    return sum + weight * x;
}

static inline sum_t read_bias(const struct zs_output_stage *stage, uint32_t channel,
                              uint32_t *stored)
{
    return zs_output_stage_bias_f32(stage, channel, stored);
}

static inline struct zs_scale read_scale(const struct zs_output_stage *stage, uint32_t channel)
{
    (void)stage;
    (void)channel;
    return (struct zs_scale){ 0 };
}

static inline sum_t start_sum(sum_t bias)
{
    (void)bias; /* added last, as TensorFlow Lite does */
    return 0.0f;
}

static inline element_t finish(const struct zs_output_stage *stage, sum_t bias,
                               struct zs_scale scale, sum_t sum)
{
    (void)scale;
    return zs_clamp_f32(sum + bias, stage->low_f32, stage->high_f32);
}

static inline sum_t zero_offset(const struct zs_conv *p, sum_t weight_sum)
{
    (void)p;
    (void)weight_sum;
    return 0.0f;
}

#define ZS_CONV_FUNCTION zs_conv_f32
#include "zs_conv_kernel.h"

#endif
