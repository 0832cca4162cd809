/*
 * string.h - for compilers without a C library. Firmware is built freestanding, where a
 * compiler may not know what memcpy does; the macros let it expand small copies in place.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PORT_STRING_H
#define PORT_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

#define memcpy(to, from, size) __builtin_memcpy((to), (from), (size))
#define memmove(to, from, size) __builtin_memmove((to), (from), (size))
#define memset(to, value, size) __builtin_memset((to), (value), (size))
#define memcmp(a, b, size) __builtin_memcmp((a), (b), (size))

#endif
