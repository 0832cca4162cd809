/*
 * zs_reader.h - bounds-checked reading of container records, internal.
 *
 * The reader is sticky: once a read runs past the end or meets a malformed
 * number, every later one gives 0 and zs_reader_ok() says so, so that parsing
 * code reads straight down and checks once. Values are put together from
 * bytes, never cast from pointers: containers may be unaligned.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_READER_H
#define ZS_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct zs_reader {
    const uint8_t *next;
    size_t left;
    bool failed;
};

static inline uint16_t zs_load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (p[1] << 8));
}

static inline uint32_t zs_load_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline int32_t zs_load_i32(const uint8_t *p)
{
    return (int32_t)zs_load_u32(p);
}

static inline float zs_load_f32(const uint8_t *p)
{
    const uint32_t bits = zs_load_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Whether an IEEE 754 single is neither infinite nor NaN, by its bits: no code for comparisons. */
static inline bool zs_bits_are_finite(uint32_t bits)
{
    return (bits & 0x7f800000u) != 0x7f800000u;
}

static inline void zs_reader_fail(struct zs_reader *r)
{
    r->failed = true;
    r->left = 0;
}

static inline bool zs_reader_ok(const struct zs_reader *r)
{
    return !r->failed;
}

uint8_t zs_reader_u8(struct zs_reader *r);
float zs_reader_f32(struct zs_reader *r);

/* Unsigned LEB128 below 2^32. */
uint32_t zs_reader_var(struct zs_reader *r);

/* The same, zigzag-coded. */
int32_t zs_reader_svar(struct zs_reader *r);

/* Advance by n bytes and give a reader over them. */
struct zs_reader zs_reader_sub(struct zs_reader *r, size_t n);

#endif
