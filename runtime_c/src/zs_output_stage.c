/*
 * zs_output_stage.c - biases and requantisation, see FORMAT.md section 3:
 * read from their packed fields, a channel at a time.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zs_internal.h"
#include "zs_math.h"

#define PACKED 128u     /* forms of a record: fields of any number of bits */
#define SOME_STORED 64u /* of a packed bias record: a mask of what is not 0 */

/* `n` bits (0 to 32) from bit `at` on, least significant first. May fetch 3 bytes past the stream.
 */
static inline uint32_t field(const uint8_t *p, uint32_t at, unsigned n)
{
    if (n == 0) {
        return 0;
    }
    p += at >> 3;
    const unsigned skip = at & 7;
    uint32_t value = zs_load_u32(p) >> skip;
    if (skip + n > 32) {
        value |= (uint32_t)p[4] << (32 - skip);
    }
    return value & (0xffffffffu >> (32 - n));
}

static inline uint32_t signed_field(const uint8_t *p, uint32_t at, unsigned n)
{
    const uint32_t sign = n == 0 ? 0 : 1u << (n - 1);
    return (field(p, at, n) ^ sign) - sign;
}

static void read_bias(const struct zs_ctx *ctx, struct zs_reader *r, uint32_t channels,
                      struct zs_output_stage *stage)
{
    const uint8_t form = zs_reader_u8(r);
    if (form < PACKED) {
        stage->bias_bits = (uint8_t)(8 * form);
        if (form > 4) {
            zs_reader_fail(r);
        } else if (form != 0) {
            stage->bias = zs_data(ctx, r, zs_reader_var(r), form * channels);
        }
        return;
    }
    stage->bias_bits = form & 63;
    stage->bias_shift = zs_reader_u8(r);
    stage->bias_base = (uint32_t)zs_reader_svar(r);
    if (stage->bias_bits > 32 || stage->bias_shift > 31) {
        zs_reader_fail(r);
        return;
    }
    uint32_t stored = channels;
    const uint32_t mask_size = (channels + 7) / 8;
    const uint32_t offset =
        stage->bias_bits != 0 || (form & SOME_STORED) != 0 ? zs_reader_var(r) : 0;
    uint32_t at = 0;
    if ((form & SOME_STORED) != 0) {
        stage->bias_mask = zs_data(ctx, r, offset, mask_size);
        if (stage->bias_mask == NULL) {
            return;
        }
        stored = 0;
        for (uint32_t i = 0; i < channels; i++) {
            stored += field(stage->bias_mask, i, 1);
        }
        at = mask_size;
    }
    if (stage->bias_bits != 0) {
        const uint8_t *all = zs_data(ctx, r, offset, at + (stored * stage->bias_bits + 7) / 8);
        stage->bias = all == NULL ? NULL : all + at;
    }
}

static void read_scales(const struct zs_ctx *ctx, struct zs_reader *r, uint32_t channels,
                        struct zs_output_stage *stage)
{
    const uint8_t form = zs_reader_u8(r);
    uint32_t n = channels;
    if (form < PACKED) {
        n = form == 0 ? 1 : channels;
        stage->multiplier_bits = 32;
        stage->shift_bits = 8;
        if (form > 1) {
            zs_reader_fail(r);
        }
    } else {
        const uint8_t widths = zs_reader_u8(r);
        stage->multiplier_bits = form & 127;
        stage->multiplier_shift = widths & 31;
        stage->shift_bits = widths >> 5;
        stage->multiplier_base = zs_reader_var(r);
        stage->shift_base = zs_reader_svar(r);
        if (stage->multiplier_bits > 31 || stage->shift_base < -64 || stage->shift_base > 64) {
            zs_reader_fail(r);
        }
    }
    const uint32_t bits = stage->multiplier_bits + stage->shift_bits;
    if (bits == 0 || !zs_reader_ok(r)) {
        return;
    }
    stage->scales = zs_data(ctx, r, zs_reader_var(r), (bits * n + 7) / 8);
    stage->shifts_at = stage->multiplier_bits * n;
    if (form == 0 && stage->scales != NULL) { /* one for all */
        stage->multiplier_base = zs_load_u32(stage->scales);
        stage->shift_base = (int8_t)stage->scales[4];
        stage->multiplier_bits = 0;
        stage->shift_bits = 0;
    }
}

ZS_COLD void zs_output_stage_read(const struct zs_ctx *ctx, struct zs_reader *r,
                                  const struct zs_tensor *out, uint32_t channels,
                                  struct zs_output_stage *stage)
{
    *stage = (struct zs_output_stage){ .zero_point = out->zero_point };
    read_bias(ctx, r, channels, stage);
    if (zs_is_float(out->dtype)) {
        if (stage->bias_bits % 32 != 0 || stage->bias_shift != 0 || stage->bias_base != 0) {
            zs_reader_fail(r);
        }
        zs_read_range_f32(r, &stage->low_f32, &stage->high_f32);
        return;
    }
    read_scales(ctx, r, channels, stage);
    zs_read_range_s8(r, &stage->low, &stage->high);
}

ZS_COLD enum zs_status zs_output_stage_check(const struct zs_output_stage *stage, uint32_t channels)
{
    for (uint32_t i = 0; i < channels; i++) {
        const uint32_t more =
            field(stage->scales, stage->multiplier_bits * i, stage->multiplier_bits);
        const uint32_t raw = stage->multiplier_base + more;
        const struct zs_scale scale = zs_output_stage_scale(stage, i);
        if (raw < more || raw > (uint32_t)INT32_MAX >> stage->multiplier_shift || scale.shift < -31
            || scale.shift > 30) {
            return ZS_ERR_FORMAT;
        }
    }
    return ZS_OK;
}

static inline uint32_t next_bias(const struct zs_output_stage *stage, uint32_t channel,
                                 uint32_t *stored)
{
    if (stage->bias_mask != NULL && field(stage->bias_mask, channel, 1) == 0) {
        return 0;
    }
    const uint32_t at = stage->bias_bits * (*stored)++;
    uint32_t bias = stage->bias_base;
    if (stage->bias_bits != 0) {
        const uint8_t *next = stage->bias + (at >> 3);
        const unsigned skip = at & 7, unused = 32u - stage->bias_bits;
        uint32_t word = zs_load_u32(next) >> skip;
        if (skip > unused) {
            word |= (uint32_t)next[4] << (32 - skip);
        }
        bias += (uint32_t)((int32_t)(word << unused) >> unused);
    }
    return bias << stage->bias_shift;
}

uint32_t zs_output_stage_bias(const struct zs_output_stage *stage, uint32_t channel,
                              uint32_t *stored)
{
    return next_bias(stage, channel, stored);
}

bool zs_output_stage_add_biases(const struct zs_output_stage *stage, uint32_t first, uint32_t n,
                                uint32_t *stored, uint32_t *sums)
{
    const struct zs_output_stage s = *stage; /* copies: `sums` may point anywhere */
    uint32_t next = *stored;
    uint32_t magnitudes = 0; /* one's complements of what is negative */
    if (s.bias_bits == 0 && s.bias_base == 0) {
        return true;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t bias = next_bias(&s, first + i, &next);
        magnitudes |= (int32_t)bias < 0 ? ~bias : bias;
        sums[i] += bias;
    }
    *stored = next;
    return zs_is_small(magnitudes);
}

float zs_output_stage_bias_f32(const struct zs_output_stage *stage, uint32_t channel,
                               uint32_t *stored)
{
    const uint32_t bits = zs_output_stage_bias(stage, channel, stored);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct zs_scale zs_output_stage_scale(const struct zs_output_stage *stage, uint32_t channel)
{
    const uint32_t more =
        field(stage->scales, stage->multiplier_bits * channel, stage->multiplier_bits);
    const uint32_t at = stage->shifts_at + stage->shift_bits * channel;
    return (struct zs_scale){
        .multiplier = (int32_t)((stage->multiplier_base + more) << stage->multiplier_shift),
        .shift = stage->shift_base + (int32_t)signed_field(stage->scales, at, stage->shift_bits),
    };
}
