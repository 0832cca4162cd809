/* zs_conv_f32.c - float32 convolution, portable. SPDX-License-Identifier: Apache-2.0 */
#include "zs_conv.h"
#include "zs_math.h"

#if ZS_OP_CONV && ZS_FLOAT32_KERNELS

typedef float element_t;
typedef float weight_t;
typedef float sum_t;

static bool is_live(const element_t *row, int32_t width, element_t zero)
{
    for (int32_t x = 0; x < width; x++) {
        if (row[x] < zero || row[x] > zero) {
            return true;
        }
    }
    return false;
}

static inline sum_t multiply_add(sum_t sum, weight_t weight, float x)
{
    return sum + weight * x;
}

struct channel {
    float bias, low, high;
};

static inline struct channel read_channel(const struct zs_conv *p, uint32_t channel,
                                          uint32_t *stored)
{
    return (struct channel){
        .bias = zs_output_stage_bias_f32(&p->stage, channel, stored),
        .low = p->stage.low_f32,
        .high = p->stage.high_f32,
    };
}

static inline sum_t start_sum(const struct channel *channel)
{
    (void)channel; /* the bias is added last, as TensorFlow Lite does */
    return 0.0f;
}

static inline void finish(const struct channel *channel, const sum_t *sums, int32_t n,
                          element_t *out, int32_t step)
{
    for (int32_t i = 0; i < n; i++, out += step) {
        *out = zs_clamp_f32(sums[i] + channel->bias, channel->low, channel->high);
    }
}

static inline sum_t zero_offset(const struct zs_conv *p, sum_t weight_sum)
{
    (void)p;
    (void)weight_sum;
    return 0.0f;
}

typedef weight_t tap_weight_t;

#define TILE 4
#define BLOCK 32 /* pixels between two calls of finish() */
#define ROW_LIST_COST 6
#include "zs_conv_tile.h"

#define ZS_CONV_FUNCTION zs_conv_f32
#include "zs_conv_kernel.h"

#endif
