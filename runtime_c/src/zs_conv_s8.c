/* zs_conv_s8.c - int8 convolution, portable. SPDX-License-Identifier: Apache-2.0 */
#include "zs_conv.h"
#include "zs_math.h"

#if ZS_OP_CONV && ZS_INT8_KERNELS

typedef int8_t element_t;
typedef int16_t weight_t;
typedef uint32_t sum_t; /* wraps at 32 bits by contract */

static inline sum_t multiply_add(sum_t sum, weight_t weight, int32_t x)
{
    return sum + (sum_t)(weight * x);
}

static inline sum_t read_bias(const struct zs_output_stage *stage, uint32_t channel,
                              uint32_t *stored)
{
    return zs_output_stage_bias(stage, channel, stored);
}

static inline struct zs_scale read_scale(const struct zs_output_stage *stage, uint32_t channel)
{
    return zs_output_stage_scale(stage, channel);
}

static inline sum_t start_sum(sum_t bias)
{
    return bias;
}

static inline element_t finish(const struct zs_output_stage *stage, sum_t bias,
                               struct zs_scale scale, sum_t sum)
{
    (void)bias; /* the sum started from it */
    return zs_output_stage_s8(stage, scale, sum);
}

/* Inner pixels multiply raw activations: what their zero point adds is taken off in advance. */
static inline sum_t zero_offset(const struct zs_conv *p, sum_t weight_sum)
{
    return weight_sum * (sum_t)p->in.zero_point;
}

#define ZS_CONV_FUNCTION zs_conv_s8
#include "zs_conv_kernel.h"

#endif
