/*
 * console_nrf51.c - nRF51 UART (Reference Manual v3.0, chapter 29), TXD on P0.24 and RXD on P0.25
 * as on the micro:bit v1. SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"

#define GPIO_OUTSET 0x50000508u
#define GPIO_DIRSET 0x50000518u
#define GPIO_OUTCLR 0x5000050cu
#define TXD_PIN 24u
#define RXD_PIN 25u

enum {
    STARTRX = 0x000,
    STARTTX = 0x008,
    RXDRDY = 0x108,
    TXDRDY = 0x11c,
    ENABLE = 0x500,
    PSELTXD = 0x50c,
    PSELRXD = 0x514,
    RXD = 0x518,
    TXD = 0x51c,
    BAUDRATE = 0x524
};

void port_console_init(void)
{
    *port_register(GPIO_OUTSET) = 1u << TXD_PIN;
    *port_register(GPIO_DIRSET) = 1u << TXD_PIN;
    *port_register(PORT_CONSOLE_BASE + PSELTXD) = TXD_PIN;
    *port_register(PORT_CONSOLE_BASE + PSELRXD) = RXD_PIN;
    /* The register holds baud * 2^32 / 16 MHz, rounded to the upper 20 bits. */
    const uint64_t ratio = ((uint64_t)PORT_CONSOLE_BAUD << 32) / PORT_CONSOLE_CLOCK_HZ;
    *port_register(PORT_CONSOLE_BASE + BAUDRATE) = ((uint32_t)ratio + 0x800u) & 0xfffff000u;
    *port_register(PORT_CONSOLE_BASE + ENABLE) = 4u;
    *port_register(PORT_CONSOLE_BASE + TXDRDY) = 0;
    *port_register(PORT_CONSOLE_BASE + STARTTX) = 1u;
    *port_register(PORT_CONSOLE_BASE + RXDRDY) = 0;
    *port_register(PORT_CONSOLE_BASE + STARTRX) = 1u;
#if PORT_TRIGGER
    *port_register(GPIO_DIRSET) = 1u << PORT_TRIGGER_BIT;
#endif
}

void port_console_put(char c)
{
    *port_register(PORT_CONSOLE_BASE + TXD) = (uint8_t)c;
    while (*port_register(PORT_CONSOLE_BASE + TXDRDY) == 0) {
    }
    *port_register(PORT_CONSOLE_BASE + TXDRDY) = 0;
}

int port_console_get(void)
{
    while (*port_register(PORT_CONSOLE_BASE + RXDRDY) == 0) {
    }
    *port_register(PORT_CONSOLE_BASE + RXDRDY) = 0;
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + RXD);
}

void port_trigger(int level)
{
#if PORT_TRIGGER
    *port_register(level != 0 ? GPIO_OUTSET : GPIO_OUTCLR) = 1u << PORT_TRIGGER_BIT;
#else
    (void)level;
#endif
}
