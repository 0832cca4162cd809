/* cycles.c - count processor cycles. SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

void port_systick(void);

#if PORT_CYCLES_DWT

/* The Data Watchpoint and Trace unit's counter (ARMv7-M and later). */
void port_cycles_start(void)
{
    *port_register(0xe000edfcu) |= 1u << 24; /* DEMCR.TRCENA */
    *port_register(0xe0001004u) = 0;         /* DWT_CYCCNT */
    *port_register(0xe0001000u) |= 1u;       /* DWT_CTRL.CYCCNTENA */
}

uint32_t port_cycles(void)
{
    return *port_register(0xe0001004u);
}

void port_systick(void)
{
}

#else

/* SysTick counts down 24 bits; its interrupt counts the wraps. */
#define SYST_CSR 0xe000e010u
#define SYST_RVR 0xe000e014u
#define SYST_CVR 0xe000e018u
#define PERIOD (1u << 24)

static volatile uint32_t wraps;

void port_systick(void)
{
    wraps = wraps + 1u;
}

void port_cycles_start(void)
{
    *port_register(SYST_RVR) = PERIOD - 1u;
    *port_register(SYST_CVR) = 0;
    *port_register(SYST_CSR) = 7u; /* processor clock, interrupt, enable */
    wraps = 0;
}

uint32_t port_cycles(void)
{
    uint32_t before;
    uint32_t value;
    do {
        before = wraps;
        value = *port_register(SYST_CVR);
    } while (before != wraps);
    return before * PERIOD + (PERIOD - 1u - value);
}

#endif
