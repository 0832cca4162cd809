/* console_rp2350.c - RP2350 on its Arm cores, see rp2.h. SPDX-License-Identifier: Apache-2.0 */
#define PORT_RP2350 1
#define RP2_XOSC 0x40048000u
#define RP2_CLOCKS 0x40010000u
#define RP2_PLL 0x40050000u
#define RP2_RESETS 0x40020000u
#define RP2_IO 0x40028000u
#define RP2_PADS 0x40038000u
#define RP2_RESET_IO (1u << 6)
#define RP2_RESET_PADS (1u << 9)
#define RP2_RESET_PLL (1u << 14)
#define RP2_RESET_UART0 (1u << 26)
#include "rp2.h"

/* An image that the boot ROM starts: a block with one item, Arm secure executable (RP2350
   Datasheet, section 5.9.5.1). */
extern const uint32_t port_image_def[5];
__attribute__((section(".image_def"), used))
const uint32_t port_image_def[5] = { 0xffffded3u, 0x10210142u, 0x000001ffu, 0x00000000u,
                                     0xab123579u };

void port_console_init(void)
{
    rp2_clock_init(125, 5, 2); /* 150 MHz */
    rp2_console_init();
}
