/*
 * rp2.h - RP2040 and RP2350: the clock at PORT_CLOCK_HZ from the 12 MHz crystal, UART0 (a PL011) on
 * GPIO 0 and 1, clocked by the crystal. Registers: RP2040 Datasheet sections 2.14 (resets), 2.15
 * (clocks), 2.16 (crystal), 2.18 (PLL), 2.19 (pins), 4.2 (UART); RP2350 Datasheet, chapters 7 to 9,
 * 12; offsets are the same, and the includer gives the bases and the bits of the resets.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef RP2_H
#define RP2_H

#include "port.h"

#define CLEAR_ALIAS 0x3000u /* writes clear bits */

enum {
    XOSC_CTRL = 0x00,
    XOSC_STATUS = 0x04,
    XOSC_STARTUP = 0x0c,
    CLK_REF_CTRL = 0x30,
    CLK_REF_SELECTED = 0x38,
    CLK_SYS_CTRL = 0x3c,
    CLK_SYS_SELECTED = 0x44,
    CLK_PERI_CTRL = 0x48,
    PLL_CS = 0x00,
    PLL_PWR = 0x04,
    PLL_FBDIV = 0x08,
    PLL_PRIM = 0x0c,
    RESETS_DONE = 0x08,
    UARTDR = 0x00,
    UARTFR = 0x18,
    UARTIBRD = 0x24,
    UARTFBRD = 0x28,
    UARTLCR_H = 0x2c,
    UARTCR = 0x30
};

/* Single-cycle IO. */
#if PORT_RP2350
#define SIO_OUT_SET 0xd0000018u
#define SIO_OUT_CLR 0xd0000020u
#define SIO_OE_SET 0xd0000038u
#else
#define SIO_OUT_SET 0xd0000014u
#define SIO_OUT_CLR 0xd0000018u
#define SIO_OE_SET 0xd0000024u
#endif

static void rp2_wait(uint32_t address, uint32_t mask)
{
    while ((*port_register(address) & mask) != mask) {
    }
}

static void rp2_release(uint32_t blocks)
{
    *port_register(RP2_RESETS + CLEAR_ALIAS) = blocks;
    rp2_wait(RP2_RESETS + RESETS_DONE, blocks);
}

/* 12 MHz * feedback / (post_1 * post_2) */
static void rp2_clock_init(uint32_t feedback, uint32_t post_1, uint32_t post_2)
{
    *port_register(RP2_XOSC + XOSC_STARTUP) = 47u; /* 1 ms in units of 256 crystal cycles */
    *port_register(RP2_XOSC + XOSC_CTRL) = 0xfabu << 12 | 0xaa0u;
    rp2_wait(RP2_XOSC + XOSC_STATUS, 1u << 31); /* stable */
    *port_register(RP2_CLOCKS + CLK_REF_CTRL) = 2u;
    rp2_wait(RP2_CLOCKS + CLK_REF_SELECTED, 1u << 2);
    rp2_release(RP2_RESET_PLL);
    *port_register(RP2_PLL + PLL_CS) = 1u;
    *port_register(RP2_PLL + PLL_FBDIV) = feedback;
    *port_register(RP2_PLL + PLL_PWR + CLEAR_ALIAS) = 1u << 0 | 1u << 5; /* PD, VCOPD */
    rp2_wait(RP2_PLL + PLL_CS, 1u << 31);                                /* locked */
    *port_register(RP2_PLL + PLL_PRIM) = post_1 << 16 | post_2 << 12;
    *port_register(RP2_PLL + PLL_PWR + CLEAR_ALIAS) = 1u << 3; /* POSTDIVPD */
    *port_register(RP2_CLOCKS + CLK_SYS_CTRL) = 1u;            /* the auxiliary source, PLL_SYS */
    rp2_wait(RP2_CLOCKS + CLK_SYS_SELECTED, 1u << 1);
    *port_register(RP2_CLOCKS + CLK_PERI_CTRL) = 1u << 11 | 4u << 5; /* the crystal */
}

static void rp2_pin(unsigned pin, uint32_t function)
{
#if PORT_RP2350
    /* Output on and isolation off; pads start isolated. */
    *port_register(RP2_PADS + 4u + 4u * pin) = 1u << 6 | 1u << 4;
#endif
    *port_register(RP2_IO + 4u + 8u * pin) = function;
}

static void rp2_console_init(void)
{
    rp2_release(RP2_RESET_IO | RP2_RESET_PADS | RP2_RESET_UART0);
    rp2_pin(0, 2);
    rp2_pin(1, 2);
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
    rp2_pin(PORT_TRIGGER_BIT, 5);
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

#endif
