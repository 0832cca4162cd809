/*
 * console_rp2040.c - RP2040 UART0 (a PL011) on GPIO 0 and 1, at the 12 MHz of the Pico's crystal.
 * Registers: RP2040 Datasheet, sections 2.14 (resets), 2.15 (clocks), 2.16 (crystal),
 * 2.19 (pins) and 4.2 (UART).
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"

#define XOSC_CTRL 0x40024000u
#define XOSC_STATUS 0x40024004u
#define XOSC_STARTUP 0x4002400cu
#define CLK_REF_CTRL 0x40008030u
#define CLK_REF_SELECTED 0x40008038u
#define CLK_PERI_CTRL 0x40008048u
#define RESETS_RESET_CLEAR 0x4000f000u /* atomic bit clear alias of RESET */
#define RESETS_DONE 0x4000c008u
#define IO_GPIO0_CTRL 0x40014004u /* 8 bytes on for each pin */
#define SIO_OUT_SET 0xd0000014u
#define SIO_OUT_CLR 0xd0000018u
#define SIO_OE_SET 0xd0000024u

#define RESET_IO_BANK0 (1u << 5)
#define RESET_PADS_BANK0 (1u << 8)
#define RESET_UART0 (1u << 22)

enum {
    UARTDR = 0x00,
    UARTFR = 0x18,
    UARTIBRD = 0x24,
    UARTFBRD = 0x28,
    UARTLCR_H = 0x2c,
    UARTCR = 0x30
};

/* Crystal to clk_ref; clk_sys follows clk_ref after reset, and the UART takes clk_sys. */
static void clocks_init(void)
{
    *port_register(XOSC_STARTUP) = 47u; /* 1 ms in units of 256 crystal cycles */
    *port_register(XOSC_CTRL) = 0xfabu << 12 | 0xaa0u;
    while ((*port_register(XOSC_STATUS) & 1u << 31) == 0) { /* stable */
    }
    *port_register(CLK_REF_CTRL) = 2u;
    while ((*port_register(CLK_REF_SELECTED) & 1u << 2) == 0) {
    }
    *port_register(CLK_PERI_CTRL) = 1u << 11;
}

void port_console_init(void)
{
    const uint32_t blocks = RESET_IO_BANK0 | RESET_PADS_BANK0 | RESET_UART0;
    clocks_init();
    *port_register(RESETS_RESET_CLEAR) = blocks;
    while ((*port_register(RESETS_DONE) & blocks) != blocks) {
    }
    *port_register(IO_GPIO0_CTRL) = 2u;      /* function 2: UART0 TX */
    *port_register(IO_GPIO0_CTRL + 8u) = 2u; /* UART0 RX */
    /* The divider has 6 fractional bits: clock * 64 / (16 * baud). */
    const uint32_t divider =
        (PORT_CONSOLE_CLOCK_HZ * 4u + PORT_CONSOLE_BAUD / 2u) / PORT_CONSOLE_BAUD;
    *port_register(PORT_CONSOLE_BASE + UARTIBRD) = divider >> 6;
    *port_register(PORT_CONSOLE_BASE + UARTFBRD) = divider & 0x3fu;
    *port_register(PORT_CONSOLE_BASE + UARTLCR_H) = 3u << 5 | 1u << 4; /* 8 bits, FIFO */
    *port_register(PORT_CONSOLE_BASE + UARTCR) = 3u << 8 | 1u << 0;    /* both ways, on */
#if PORT_TRIGGER
    *port_register(SIO_OUT_SET) = 1u << PORT_TRIGGER_BIT;
    *port_register(SIO_OE_SET) = 1u << PORT_TRIGGER_BIT;
    *port_register(IO_GPIO0_CTRL + 8u * PORT_TRIGGER_BIT) = 5u; /* function 5: SIO */
#endif
}

void port_console_put(char c)
{
    while ((*port_register(PORT_CONSOLE_BASE + UARTFR) & 1u << 5) != 0) { /* FIFO full */
    }
    *port_register(PORT_CONSOLE_BASE + UARTDR) = (uint8_t)c;
}

int port_console_get(void)
{
    while ((*port_register(PORT_CONSOLE_BASE + UARTFR) & 1u << 4) != 0) { /* FIFO empty */
    }
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + UARTDR);
}

void port_trigger(int level)
{
#if PORT_TRIGGER
    *port_register(level != 0 ? SIO_OUT_SET : SIO_OUT_CLR) = 1u << PORT_TRIGGER_BIT;
#else
    (void)level;
#endif
}
