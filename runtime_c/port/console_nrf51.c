/*
 * console_nrf51.c - the UART of nRF51 and nRF52 (nRF51 Reference Manual v3.0, chapter 29; nRF52840
 * PS v1.7, section 6.33) on the pins PORT_CONSOLE_TX and PORT_CONSOLE_RX, of which 32 is P1.00.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"

#define GPIO 0x50000000u
#define NVMC_ICACHECNF 0x4001e540u

enum {
    GPIO_PORT = 0x300,
    GPIO_OUTSET = 0x508,
    GPIO_OUTCLR = 0x50c,
    GPIO_DIRSET = 0x518,
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

static void pin_write(uint32_t what, unsigned pin)
{
    *port_register(GPIO + GPIO_PORT * (pin >> 5) + what) = 1u << (pin & 31u);
}

void port_console_init(void)
{
#if PORT_FLASH_CACHE
    *port_register(NVMC_ICACHECNF) = 1u;
#endif
    pin_write(GPIO_OUTSET, PORT_CONSOLE_TX);
    pin_write(GPIO_DIRSET, PORT_CONSOLE_TX);
    *port_register(PORT_CONSOLE_BASE + PSELTXD) = PORT_CONSOLE_TX;
    *port_register(PORT_CONSOLE_BASE + PSELRXD) = PORT_CONSOLE_RX;
    /* The register holds baud * 2^32 / 16 MHz, rounded to the upper 20 bits. */
    const uint64_t ratio = ((uint64_t)PORT_CONSOLE_BAUD << 32) / PORT_CONSOLE_CLOCK_HZ;
    *port_register(PORT_CONSOLE_BASE + BAUDRATE) = ((uint32_t)ratio + 0x800u) & 0xfffff000u;
    *port_register(PORT_CONSOLE_BASE + ENABLE) = 4u;
    *port_register(PORT_CONSOLE_BASE + TXDRDY) = 0;
    *port_register(PORT_CONSOLE_BASE + STARTTX) = 1u;
    *port_register(PORT_CONSOLE_BASE + RXDRDY) = 0;
    *port_register(PORT_CONSOLE_BASE + STARTRX) = 1u;
#if PORT_TRIGGER
    pin_write(GPIO_OUTSET, PORT_TRIGGER_BIT);
    pin_write(GPIO_DIRSET, PORT_TRIGGER_BIT);
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
    pin_write(level != 0 ? GPIO_OUTSET : GPIO_OUTCLR, PORT_TRIGGER_BIT);
#else
    (void)level;
#endif
}
