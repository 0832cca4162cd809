/* zs_conv_s8.c - int8 convolution. SPDX-License-Identifier: Apache-2.0 */
#include "zs_conv.h"
#include "zs_requantize.h"

#if ZS_OP_CONV && ZS_INT8_KERNELS

typedef int8_t element_t;
typedef int16_t weight_t;
typedef uint32_t sum_t; /* wraps at 32 bits by contract */

static bool is_live(const element_t *row, int32_t width, element_t zero)
{
#if ZS_DSP
    const uint32_t zeros = (uint8_t)zero * 0x01010101u;
    for (; width >= 4; width -= 4, row += 4) {
        uint32_t word;
        memcpy(&word, row, 4);
        if (word != zeros) {
            return true;
        }
    }
#endif
    for (int32_t x = 0; x < width; x++) {
        if (row[x] != zero) {
            return true;
        }
    }
    return false;
}

static inline sum_t multiply_add(sum_t sum, int32_t weight, int32_t x)
{
    return sum + (sum_t)(weight * x);
}

struct channel {
    sum_t bias;
    struct zs_requantize requantize;
};

static ZS_NOINLINE struct channel read_channel(const struct zs_conv *p, uint32_t channel,
                                               uint32_t *stored)
{
    const sum_t bias = zs_output_stage_bias(&p->stage, channel, stored);
    const struct zs_scale scale = zs_output_stage_scale(&p->stage, channel);
    return (struct channel){
        .bias = bias,
        .requantize = zs_requantize_for(&p->stage, scale, bias, p->weights.max_row),
    };
}

static inline sum_t start_sum(const struct channel *channel)
{
    return channel->bias;
}

static inline void finish(const struct channel *channel, const sum_t *sums, int32_t n,
                          element_t *out, int32_t step)
{
    zs_requantize(&channel->requantize, sums, n, out, step);
}

/* Inner pixels multiply raw activations: what their zero point adds is taken off in advance. */
static inline sum_t zero_offset(const struct zs_conv *p, sum_t weight_sum)
{
    return weight_sum * (sum_t)p->in.zero_point;
}

#define TILE 4
#define BLOCK (ZS_DSP ? 64 : 32) /* pixels between two calls of finish() */
#define ROW_LIST_COST (ZS_DSP ? 32 : 20)

#if ZS_DSP
#include "zs_conv_dense_s8.h"
#include "zs_conv_depthwise_s8.h"
#include "zs_conv_tile_dsp.h"
#define ZS_CONV_DENSE run_dense
#define ZS_CONV_DEPTHWISE run_depthwise
#elif ZS_SSE2
#include "zs_conv_tile_sse2.h"
#else
typedef int32_t tap_weight_t; /* a word, which ARMv6-M loads as it is */
#define ZS_CONV_S8 1
#include "zs_conv_tile.h"
#endif

#define ZS_CONV_FUNCTION zs_conv_s8
#include "zs_conv_kernel.h"

#endif
