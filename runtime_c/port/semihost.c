/* semihost.c - see semihost.h. SPDX-License-Identifier: Apache-2.0 */
#include "semihost.h"

enum operation {
    SYS_OPEN = 0x01,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
};

#define ADP_STOPPED_APPLICATION_EXIT 0x20026u

static uint32_t call(enum operation operation, const void *block)
{
    register uint32_t r0 __asm__("r0") = (uint32_t)operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int semihost_open(const char *name, enum semihost_mode mode)
{
    uint32_t length = 0;
    while (name[length] != '\0') {
        length++;
    }
    const uint32_t block[3] = { (uint32_t)(uintptr_t)name, (uint32_t)mode, length };
    return (int)call(SYS_OPEN, block);
}

/* Both answer with the number of bytes that were not transferred. */
int semihost_read(int file, void *to, size_t size)
{
    const uint32_t block[3] = { (uint32_t)file, (uint32_t)(uintptr_t)to, (uint32_t)size };
    return size == 0 || call(SYS_READ, block) == 0;
}

int semihost_write(int file, const void *from, size_t size)
{
    const uint32_t block[3] = { (uint32_t)file, (uint32_t)(uintptr_t)from, (uint32_t)size };
    return size == 0 || call(SYS_WRITE, block) == 0;
}

void semihost_print(const char *text)
{
    (void)call(SYS_WRITE0, text);
}

void semihost_exit(uint32_t status)
{
    const uint32_t block[2] = { ADP_STOPPED_APPLICATION_EXIT, status };
    for (;;) {
        (void)call(SYS_EXIT_EXTENDED, block);
    }
}
