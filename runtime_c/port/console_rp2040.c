/* console_rp2040.c - RP2040, see rp2.h. SPDX-License-Identifier: Apache-2.0 */
#define PORT_RP2350 0
#define RP2_XOSC 0x40024000u
#define RP2_CLOCKS 0x40008000u
#define RP2_PLL 0x40028000u
#define RP2_RESETS 0x4000c000u
#define RP2_IO 0x40014000u
#define RP2_RESET_IO (1u << 5)
#define RP2_RESET_PADS (1u << 8)
#define RP2_RESET_PLL (1u << 12)
#define RP2_RESET_UART0 (1u << 22)
#include "rp2.h"

void port_console_init(void)
{
    rp2_clock_init(133, 6, 2); /* 133 MHz */
    rp2_console_init();
}
