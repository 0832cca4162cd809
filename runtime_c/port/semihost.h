/*
 * semihost.h - files and exit on the host of an emulator or debugger.
 * Operations and blocks: Arm "Semihosting for AArch32 and AArch64", version 3.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SEMIHOST_H
#define SEMIHOST_H

#include <stddef.h>
#include <stdint.h>

enum semihost_mode {
    SEMIHOST_READ = 1,
    SEMIHOST_WRITE = 5
}; /* fopen's "rb" and "wb" */

/* A handle above 0, or -1. */
int semihost_open(const char *name, enum semihost_mode mode);

/* 1 if all `size` bytes were read or written, else 0. */
int semihost_read(int file, void *to, size_t size);
int semihost_write(int file, const void *from, size_t size);

void semihost_print(const char *text);

/* End the emulator with this exit status. */
__attribute__((noreturn)) void semihost_exit(uint32_t status);

#endif
