/*
 * port.c - what programs that validate the cycle models need beside zeroskip's own port.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "semihost.h"
#include "validation.h"

void port_op_end(void *user, unsigned op, uint32_t macs);

/* A mark of the counter: it has to be called. */
__attribute__((noipa)) void port_op_end(void *user, unsigned op, uint32_t macs)
{
    (void)user;
    (void)op;
    (void)macs;
    __asm__ volatile("");
}

void validation_begin(void)
{
    port_op_begin(NULL, 0);
}

void validation_end(void)
{
    port_op_end(NULL, 0, 0);
}

void validation_report(const void *from, size_t size)
{
    const int file = semihost_open("result.bin", SEMIHOST_WRITE);
    if (file < 0 || !semihost_write(file, from, size)) {
        semihost_exit(2);
    }
}

void port_on_fault(uint32_t pc, uint32_t lr, uint32_t cause)
{
    (void)pc;
    (void)lr;
    (void)cause;
    semihost_exit(3);
}

void port_systick(void);
void port_systick(void)
{
}

int main(void)
{
    port_mark_run(); /* the regions that follow are numbered from 1 */
    port_mark_between();
    port_mark_stop();
    validation_main();
    port_mark_stop();
    semihost_exit(0);
}
