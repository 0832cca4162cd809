/*
 * console_lpc55.c - LPC55S69 (UM11126): FLEXCOMM0 as USART on PIO0_29 and PIO0_30, clocked by the
 * 12 MHz oscillator, which the core stays at: faster clocks need voltages that NXP's own
 * library sets.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"

#define SYSCON 0x50000000u
#define IOCON 0x50001000u
#define GPIO 0x5008c000u

enum {
    PRESETCTRLCLR1 = 0x144,
    AHBCLKCTRLSET0 = 0x220,
    AHBCLKCTRLSET1 = 0x224,
    FCCLKSEL0 = 0x2b0,
    GPIO_DIRSET0 = 0x2380,
    GPIO_SET0 = 0x2200,
    GPIO_CLR0 = 0x2280,
    CFG = 0x000,
    BRG = 0x020,
    OSR = 0x028,
    FIFOCFG = 0xe00,
    FIFOSTAT = 0xe04,
    FIFOWR = 0xe20,
    FIFORD = 0xe30,
    PSELID = 0xff8
};

void port_console_init(void)
{
    *port_register(SYSCON + AHBCLKCTRLSET0) = 1u << 13 | 1u << 14; /* IOCON, GPIO0 */
    *port_register(SYSCON + AHBCLKCTRLSET1) = 1u << 11;            /* FLEXCOMM0 */
    *port_register(SYSCON + PRESETCTRLCLR1) = 1u << 11;
    *port_register(SYSCON + FCCLKSEL0) = 2u;         /* 12 MHz */
    *port_register(IOCON + 4u * 29u) = 1u | 1u << 8; /* function 1, digital */
    *port_register(IOCON + 4u * 30u) = 1u | 1u << 8;
    *port_register(PORT_CONSOLE_BASE + PSELID) = 1u; /* a USART */
    /* 13 clocks a bit, then the divider: closest to 115,200 baud at 12 MHz */
    *port_register(PORT_CONSOLE_BASE + OSR) = 12u;
    *port_register(PORT_CONSOLE_BASE + BRG) =
        (PORT_CONSOLE_CLOCK_HZ + 13u * PORT_CONSOLE_BAUD / 2u) / (13u * PORT_CONSOLE_BAUD) - 1u;
    *port_register(PORT_CONSOLE_BASE + FIFOCFG) = 3u | 3u << 16; /* both FIFOs, empty */
    *port_register(PORT_CONSOLE_BASE + CFG) = 1u | 1u << 2;      /* on, 8 bits */
#if PORT_TRIGGER
    *port_register(IOCON + 4u * PORT_TRIGGER_BIT) = 1u << 8;
    *port_register(GPIO + GPIO_SET0) = 1u << PORT_TRIGGER_BIT;
    *port_register(GPIO + GPIO_DIRSET0) = 1u << PORT_TRIGGER_BIT;
#endif
}

void port_console_put(char c)
{
    while ((*port_register(PORT_CONSOLE_BASE + FIFOSTAT) & 1u << 5) == 0) { /* not full */
    }
    *port_register(PORT_CONSOLE_BASE + FIFOWR) = (uint8_t)c;
}

int port_console_get(void)
{
    while ((*port_register(PORT_CONSOLE_BASE + FIFOSTAT) & 1u << 6) == 0) { /* not empty */
    }
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + FIFORD);
}

void port_trigger(int level)
{
#if PORT_TRIGGER
    *port_register(GPIO + (level != 0 ? GPIO_SET0 : GPIO_CLR0)) = 1u << PORT_TRIGGER_BIT;
#else
    (void)level;
#endif
}
