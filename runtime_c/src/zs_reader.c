/* zs_reader.c - the number formats of FORMAT.md. SPDX-License-Identifier: Apache-2.0 */
#include "zs_reader.h"

uint8_t zs_reader_u8(struct zs_reader *r)
{
    if (r->left == 0) {
        zs_reader_fail(r);
        return 0;
    }
    r->left--;
    return *r->next++;
}

float zs_reader_f32(struct zs_reader *r)
{
    if (r->left < 4) {
        zs_reader_fail(r);
        return 0.0f;
    }
    const float value = zs_load_f32(r->next);
    r->next += 4;
    r->left -= 4;
    return value;
}

uint32_t zs_reader_var(struct zs_reader *r)
{
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        const uint32_t byte = zs_reader_u8(r);
        if (shift == 28 && byte > 15) {
            break;
        }
        value |= (byte & 127) << shift;
        if (byte < 128) {
            return value;
        }
    }
    zs_reader_fail(r);
    return 0;
}

int32_t zs_reader_svar(struct zs_reader *r)
{
    const uint32_t zigzag = zs_reader_var(r);
    return (int32_t)(zigzag >> 1 ^ (0u - (zigzag & 1)));
}

struct zs_reader zs_reader_sub(struct zs_reader *r, size_t n)
{
    if (n > r->left) {
        zs_reader_fail(r);
        n = 0;
    }
    const struct zs_reader sub = { .next = r->next, .left = n, .failed = r->failed };
    r->next += n;
    r->left -= n;
    return sub;
}
