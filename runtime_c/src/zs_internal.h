/*
 * zs_internal.h - what the runtime's files share.
 *
 * An op is one function, zs_op_<name>(ctx, body), used for two things: with
 * ctx->arena == NULL it checks its record end to end (zs_model_init), else it
 * computes (zs_run) and relies on that check. Both read the record through the
 * same parse function.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_INTERNAL_H
#define ZS_INTERNAL_H

#include "zs.h"

#include "zs_config.h"
#include "zs_math.h"
#include "zs_reader.h"

/* Keeps the registers of an inner loop apart from those of what is around it. */
#ifdef __GNUC__
#define ZS_NOINLINE __attribute__((noinline))
#else
#define ZS_NOINLINE
#endif

/* Runs once for each model, or hardly takes time: small rather than fast. */
#ifdef __GNUC__
#define ZS_COLD __attribute__((cold))
#else
#define ZS_COLD
#endif

/* Limits of FORMAT.md. */
#define ZS_MAX_ARENA (1u << 26)
#define ZS_MAX_ELEMENTS (1u << 27)            /* of a weight matrix */
#define ZS_MAX_WORK (1u << 30)                /* of an op */
#define ZS_MAX_TOTAL_WORK ((uint64_t)1 << 32) /* of a model */
#define ZS_MAX_WINDOW (1u << 22) /* elements averaged into one: their int8 sum fits int32 */
#define ZS_MAX_DIM 65535u

enum zs_op_code {
    ZS_CODE_CONV = 1,
    ZS_CODE_FULLY_CONNECTED = 2,
    ZS_CODE_BINARY = 3,
    ZS_CODE_POOL = 4,
    ZS_CODE_MEAN = 5,
    ZS_CODE_PAD = 6,
    ZS_CODE_CONCAT = 7,
    ZS_CODE_SOFTMAX = 8,
    ZS_CODE_TABLE = 9,
    ZS_CODE_UNARY = 10,
    ZS_CODE_CONVERT = 11,
    ZS_CODE_TRANSPOSE = 12,
    ZS_CODE_SLICE = 13,
};

struct zs_ctx {
    const struct zs_model *model;
    uint8_t *arena; /* NULL while checking */
    uint32_t macs;  /* executed by the current op */
    uint64_t work;  /* while checking: an upper bound of what one inference takes */
};

/* A row of the tensor table. */
struct zs_tensor {
    uint32_t location; /* in the arena, or in data for a constant */
    uint32_t count;    /* elements */
    uint32_t size;     /* bytes */
    int32_t zero_point;
    enum zs_dtype dtype;
    unsigned rank;
    uint32_t dims[ZS_MAX_RANK]; /* 1 past the rank */
    bool constant;
};

/* Limits and scaling of an op's results; int8 and float32 fields by the output's dtype. */
struct zs_output_stage {
    const uint8_t *bias;      /* fields of bias_bits, NULL if that is 0 */
    const uint8_t *bias_mask; /* a bit per channel, 1 = it has a field; NULL if all have */
    const uint8_t *scales;    /* fields of multiplier_bits, then from bit shifts_at of shift_bits */
    uint32_t shifts_at;
    uint32_t bias_base, multiplier_base;
    int32_t shift_base;
    uint8_t bias_bits, bias_shift;
    uint8_t multiplier_bits, multiplier_shift;
    uint8_t shift_bits;
    int32_t zero_point;
    int32_t low, high;
    float low_f32, high_f32;
};

/* What the sums of a channel are multiplied by: multiplier * 2^(shift - 31). */
struct zs_scale {
    int32_t multiplier, shift;
};

/* Read tensor `index`, which must exist. */
void zs_tensor_get(const struct zs_model *model, unsigned index, struct zs_tensor *tensor);

/* Read a tensor index from an op's body and that tensor. */
void zs_tensor_read(const struct zs_ctx *ctx, struct zs_reader *r, struct zs_tensor *tensor);

/* Read-only data of an activation or constant. Constants may be unaligned. */
const void *zs_tensor_input(const struct zs_ctx *ctx, const struct zs_tensor *tensor);
void *zs_tensor_output(const struct zs_ctx *ctx, const struct zs_tensor *tensor);

/* Whether two places in the arena overlap; constants overlap nothing. */
bool zs_tensor_overlaps(const struct zs_tensor *tensor, uint32_t location, uint32_t size);

/* Checks shared by ops of one input: activations, dtypes int8 or float32, no overlap. */
bool zs_check_unary(const struct zs_tensor *in, const struct zs_tensor *out, bool in_place);

/* Whether `size` bytes of scratch lie in the arena, aligned, apart from in and out. */
bool zs_check_scratch(const struct zs_ctx *ctx, uint32_t location, uint64_t size,
                      const struct zs_tensor *in, const struct zs_tensor *out);

/* Count an op's work while checking; false if it, or that of the model, is over the limit. */
bool zs_spend(struct zs_ctx *ctx, uint64_t work);

/* Whether this build has the kernels for the dtype. */
bool zs_has_kernels(enum zs_dtype dtype);

/* Whether elements are floats, for ops that refuse those that the build has no kernels for: without
 * float32 kernels they need no code for their records. */
static inline bool zs_is_float(enum zs_dtype dtype)
{
    return ZS_FLOAT32_KERNELS && dtype == ZS_FLOAT32;
}

/*
 * `size` bytes at data offset `offset`, or NULL (and a failed reader) if they
 * do not lie inside data.
 */
const uint8_t *zs_data(const struct zs_ctx *ctx, struct zs_reader *r, uint32_t offset,
                       uint32_t size);

/* svar low and high; fails unless -128 <= low <= high <= 127. */
void zs_read_range_s8(struct zs_reader *r, int32_t *low, int32_t *high);

/* f32 low and high; fails unless low <= high. */
void zs_read_range_f32(struct zs_reader *r, float *low, float *high);

/* A finite f32. */
float zs_read_finite(struct zs_reader *r);

/* svar multiplier (>= 0) and shift (-31 to 30). */
void zs_read_scale(struct zs_reader *r, int32_t *multiplier, int32_t *shift);

/* Bias and requantisation records for `channels` outputs. */
void zs_output_stage_read(const struct zs_ctx *ctx, struct zs_reader *r,
                          const struct zs_tensor *out, uint32_t channels,
                          struct zs_output_stage *stage);
enum zs_status zs_output_stage_check(const struct zs_output_stage *stage, uint32_t channels);
/*
 * The bias of a channel, an int32 modulo 2^32 or the bits of a float. Channels
 * are read in ascending order: `stored`, 0 before the first, counts fields.
 */
uint32_t zs_output_stage_bias(const struct zs_output_stage *stage, uint32_t channel,
                              uint32_t *stored);
float zs_output_stage_bias_f32(const struct zs_output_stage *stage, uint32_t channel,
                               uint32_t *stored);
/* Add those of channels [first, first + n) to sums. Returns whether all are zs_is_small(). */
bool zs_output_stage_add_biases(const struct zs_output_stage *stage, uint32_t first, uint32_t n,
                                uint32_t *stored, uint32_t *sums);
struct zs_scale zs_output_stage_scale(const struct zs_output_stage *stage, uint32_t channel);

/* acc, bias included, to int8. */
static inline int8_t zs_output_stage_s8(const struct zs_output_stage *stage, struct zs_scale scale,
                                        uint32_t acc)
{
    const int32_t scaled = zs_scale((int32_t)acc, scale.multiplier, scale.shift);
    return zs_clamp_s8(zs_wrap_add(scaled, stage->zero_point), stage->low, stage->high);
}

enum zs_status zs_op_conv(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_fully_connected(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_binary(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_pool(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_mean(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_pad(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_concat(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_softmax(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_table(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_unary(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_convert(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_transpose(struct zs_ctx *ctx, struct zs_reader *r);
enum zs_status zs_op_slice(struct zs_ctx *ctx, struct zs_reader *r);

/* Check or run (see the top of this file) all ops. */
enum zs_status zs_walk(struct zs_ctx *ctx, const struct zs_hook *hook);

#endif
