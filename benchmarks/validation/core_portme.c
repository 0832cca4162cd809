/*
 * core_portme.c - see core_portme.h. What CoreMark prints is read for its checksums.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "coremark.h"
#include "validation.h"

#include <stdarg.h>

volatile ee_s32 seed1_volatile = 0;
volatile ee_s32 seed2_volatile = 0;
volatile ee_s32 seed3_volatile = 0x66;
volatile ee_s32 seed4_volatile = ITERATIONS;
volatile ee_s32 seed5_volatile = 0;
ee_u32 default_num_contexts = 1;

/* Checksums, in the order in which they are printed: list, matrix, state, final. */
static ee_u32 sums[4];
static unsigned found;

void start_time(void)
{
    validation_begin();
}

void stop_time(void)
{
    validation_end();
}

CORE_TICKS get_time(void)
{
    return 0;
}

secs_ret time_in_secs(CORE_TICKS ticks)
{
    (void)ticks;
    return 10; /* long enough for CoreMark not to complain; no time is taken from here */
}

void portable_init(core_portable *p, int *argc, char *argv[])
{
    (void)argc;
    (void)argv;
    p->portable_id = 1;
}

void portable_fini(core_portable *p)
{
    p->portable_id = 0;
}

int ee_printf(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (format[0] == '[' && format[1] == '%' && found < 4) { /* "[%d]crclist       : 0x%04x" */
        const char *name = format;
        while (*name != ']') {
            name++;
        }
        if (name[1] == 'c' && name[2] == 'r' && name[3] == 'c') {
            (void)va_arg(arguments, int);
            sums[found++] = va_arg(arguments, ee_u32) & 0xffffu;
        }
    }
    va_end(arguments);
    return 0;
}

void coremark_main(void);

void validation_main(void)
{
    coremark_main();
    validation_report(sums, sizeof sums);
}
