/*
 * memory.c - the memory functions that compilers and the runtime call.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

/* gcc would turn these loops into calls of the very functions they make up. */
#if defined(__GNUC__) && !defined(__clang__)
#define NO_IDIOM __attribute__((optimize("no-tree-loop-distribute-patterns")))
#else
#define NO_IDIOM
#endif

/* Words are read and written through a type that may alias any other. */
typedef uint32_t __attribute__((may_alias)) word;

NO_IDIOM void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *d = to;
    const uint8_t *s = from;
    if ((((uintptr_t)d | (uintptr_t)s) & 3u) == 0) {
        word *dw = (word *)(void *)d;
        const word *sw = (const word *)(const void *)s;
        for (; size >= 4; size -= 4) {
            *dw++ = *sw++;
        }
        d = (uint8_t *)dw;
        s = (const uint8_t *)sw;
    }
    for (; size > 0; size--) {
        *d++ = *s++;
    }
    return to;
}

NO_IDIOM void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *d = to;
    const uint8_t *s = from;
    if ((uintptr_t)d - (uintptr_t)s >= size) {
        return memcpy(to, from, size);
    }
    while (size > 0) {
        size--;
        d[size] = s[size];
    }
    return to;
}

NO_IDIOM void *memset(void *to, int value, size_t size)
{
    uint8_t *d = to;
    const uint8_t byte = (uint8_t)value;
    for (; size > 0 && ((uintptr_t)d & 3u) != 0; size--) {
        *d++ = byte;
    }
    const uint32_t pattern = byte * 0x01010101u;
    word *dw = (word *)(void *)d;
    for (; size >= 4; size -= 4) {
        *dw++ = pattern;
    }
    d = (uint8_t *)dw;
    for (; size > 0; size--) {
        *d++ = byte;
    }
    return to;
}

NO_IDIOM int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    for (; size > 0; size--, x++, y++) {
        if (*x != *y) {
            return (int)*x - (int)*y;
        }
    }
    return 0;
}
