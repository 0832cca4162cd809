/*
 * console_nrf53.c - nRF5340, application core, secure (nRF5340 PS v1.3, sections 6.38 UARTE, 6.13
 * GPIO, 4.6 CLOCK, 5.4 CACHE): UARTE0 on P0.20 and P0.22, as on the DK, and 128 MHz.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"

#define CACHE_ENABLE 0x50001500u
#define CLOCK_HFCLKCTRL 0x50005558u
#define GPIO_P0 0x50842500u

enum {
    GPIO_OUTSET = 0x08,
    GPIO_OUTCLR = 0x0c,
    GPIO_DIRSET = 0x18,
    STARTRX = 0x000,
    STARTTX = 0x008,
    ENDRX = 0x110,
    ENDTX = 0x120,
    ENABLE = 0x500,
    PSEL_TXD = 0x50c,
    PSEL_RXD = 0x514,
    BAUDRATE = 0x524,
    RXD_PTR = 0x534,
    RXD_MAXCNT = 0x538,
    TXD_PTR = 0x544,
    TXD_MAXCNT = 0x548
};

/* EasyDMA reads and writes RAM. */
static volatile uint8_t sent;
static volatile uint8_t received;

static void receive_next(void)
{
    *port_register(PORT_CONSOLE_BASE + ENDRX) = 0;
    *port_register(PORT_CONSOLE_BASE + RXD_PTR) = (uint32_t)(uintptr_t)&received;
    *port_register(PORT_CONSOLE_BASE + RXD_MAXCNT) = 1u;
    *port_register(PORT_CONSOLE_BASE + STARTRX) = 1u;
}

void port_console_init(void)
{
    *port_register(CLOCK_HFCLKCTRL) = 0; /* 128 MHz, not half of it */
    *port_register(CACHE_ENABLE) = 1u;
    *port_register(GPIO_P0 + GPIO_OUTSET) = 1u << PORT_CONSOLE_TX;
    *port_register(GPIO_P0 + GPIO_DIRSET) = 1u << PORT_CONSOLE_TX;
    *port_register(PORT_CONSOLE_BASE + PSEL_TXD) = PORT_CONSOLE_TX;
    *port_register(PORT_CONSOLE_BASE + PSEL_RXD) = PORT_CONSOLE_RX;
    const uint64_t ratio = ((uint64_t)PORT_CONSOLE_BAUD << 32) / PORT_CONSOLE_CLOCK_HZ;
    *port_register(PORT_CONSOLE_BASE + BAUDRATE) = ((uint32_t)ratio + 0x800u) & 0xfffff000u;
    *port_register(PORT_CONSOLE_BASE + ENABLE) = 8u;
    receive_next();
#if PORT_TRIGGER
    *port_register(GPIO_P0 + GPIO_OUTSET) = 1u << PORT_TRIGGER_BIT;
    *port_register(GPIO_P0 + GPIO_DIRSET) = 1u << PORT_TRIGGER_BIT;
#endif
}

void port_console_put(char c)
{
    sent = (uint8_t)c;
    *port_register(PORT_CONSOLE_BASE + ENDTX) = 0;
    *port_register(PORT_CONSOLE_BASE + TXD_PTR) = (uint32_t)(uintptr_t)&sent;
    *port_register(PORT_CONSOLE_BASE + TXD_MAXCNT) = 1u;
    *port_register(PORT_CONSOLE_BASE + STARTTX) = 1u;
    while (*port_register(PORT_CONSOLE_BASE + ENDTX) == 0) {
    }
}

int port_console_get(void)
{
    while (*port_register(PORT_CONSOLE_BASE + ENDRX) == 0) {
    }
    const int c = received;
    receive_next();
    return c;
}

void port_trigger(int level)
{
#if PORT_TRIGGER
    *port_register(GPIO_P0 + (level != 0 ? GPIO_OUTSET : GPIO_OUTCLR)) = 1u << PORT_TRIGGER_BIT;
#else
    (void)level;
#endif
}
