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

struct tap {
    int32_t offset; /* of its input element for the region's first pixel */
    weight_t weight;
};
#define TAPS_SIZE(n) ((n) * (uint32_t)sizeof(struct tap))

static inline struct tap *put_tap(struct tap *next, int32_t i, int32_t offset, weight_t weight)
{
    (void)i;
    *next = (struct tap){ .offset = offset, .weight = weight };
    return next + 1;
}

static inline struct tap *put_two(struct tap *next, int32_t offset, weight_t weight, int32_t second,
                                  weight_t second_weight)
{
    next[0] = (struct tap){ .offset = offset, .weight = weight };
    next[1] = (struct tap){ .offset = second, .weight = second_weight };
    return next + 2;
}

#define TILE 4
#define BLOCK 32 /* pixels between two calls of finish() */

static inline void tiles(const struct tap *taps, int32_t n, const element_t *in, int32_t step,
                         sum_t start, sum_t *sums, int32_t pixels)
{
    for (int32_t i = 0; i < pixels; i += TILE) {
        i = i > pixels - TILE ? pixels - TILE : i;
        sum_t a0 = start, a1 = start, a2 = start, a3 = start;
        for (const struct tap *tap = taps; tap < taps + n; tap++) {
            const element_t *x = in + i * step + tap->offset;
            a0 = multiply_add(a0, tap->weight, x[0]);
            a1 = multiply_add(a1, tap->weight, x[step]);
            a2 = multiply_add(a2, tap->weight, x[2 * step]);
            a3 = multiply_add(a3, tap->weight, x[3 * step]);
        }
        sums[i] = a0;
        sums[i + 1] = a1;
        sums[i + 2] = a2;
        sums[i + 3] = a3;
    }
}

static inline sum_t pixel(const struct tap *taps, int32_t n, const element_t *in, sum_t sum)
{
    for (const struct tap *tap = taps; tap < taps + n; tap++) {
        sum = multiply_add(sum, tap->weight, in[tap->offset]);
    }
    return sum;
}

#define ZS_CONV_FUNCTION zs_conv_f32
#include "zs_conv_kernel.h"

#endif
