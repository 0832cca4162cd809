/*
 * console_stm32l4.c - STM32L4+ LPUART1 on PG7 and PG8 (RM0432), clocked by PCLK1.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "stm32.h"

#define RCC_AHB2ENR 0x4002104cu  /* bit 6: GPIOG */
#define RCC_APB1ENR1 0x40021058u /* bit 28: PWR */
#define RCC_APB1ENR2 0x4002105cu /* bit 0: LPUART1 */
#define PWR_CR2 0x40007004u      /* bit 9: IOSV, supply of port G is valid */
#define GPIOG_MODER 0x48001800u
#define GPIOG_AFRL 0x48001820u
#define GPIOG_AFRH 0x48001824u

enum {
    CR1 = 0x00,
    BRR = 0x0c,
    ISR = 0x1c,
    RDR = 0x24,
    TDR = 0x28
};

void port_console_init(void)
{
    *port_register(RCC_APB1ENR1) |= 1u << 28;
    *port_register(RCC_APB1ENR2) |= 1u << 0;
    *port_register(RCC_AHB2ENR) |= 1u << 6;
    (void)*port_register(RCC_AHB2ENR); /* the clock needs two cycles */
    *port_register(PWR_CR2) |= 1u << 9;
    *port_register(GPIOG_AFRL) = (*port_register(GPIOG_AFRL) & ~(0xfu << 28)) | 8u << 28;
    *port_register(GPIOG_AFRH) = (*port_register(GPIOG_AFRH) & ~0xfu) | 8u;
    *port_register(GPIOG_MODER) = (*port_register(GPIOG_MODER) & ~(0xfu << 14)) | 0xau << 14;
    *port_register(PORT_CONSOLE_BASE + BRR) =
        (uint32_t)((256ull * PORT_CONSOLE_CLOCK_HZ + PORT_CONSOLE_BAUD / 2u) / PORT_CONSOLE_BAUD);
    *port_register(PORT_CONSOLE_BASE + CR1) = 3u << 2 | 1u << 0; /* both ways, UART on */
#if PORT_TRIGGER
    *port_register(RCC_AHB2ENR) |= 1u << (PORT_TRIGGER_PORT >> 10 & 0xfu);
    stm32_trigger_init();
#endif
}

void port_console_put(char c)
{
    while ((*port_register(PORT_CONSOLE_BASE + ISR) & 1u << 7) == 0) { /* TXE */
    }
    *port_register(PORT_CONSOLE_BASE + TDR) = (uint8_t)c;
}

int port_console_get(void)
{
    while ((*port_register(PORT_CONSOLE_BASE + ISR) & 1u << 5) == 0) { /* RXNE */
    }
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + RDR);
}

void port_trigger(int level)
{
    stm32_trigger(level);
}
