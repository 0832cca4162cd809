/*
 * console_stm32f4.c - STM32F4 USART2 on PA2 and PA3 (RM0390), clocked by PCLK1.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "stm32.h"

#define RCC_AHB1ENR 0x40023830u /* bit 0: GPIOA */
#define RCC_APB1ENR 0x40023840u /* bit 17: USART2 */
#define GPIOA_MODER 0x40020000u
#define GPIOA_AFRL 0x40020020u

enum {
    SR = 0x00,
    DR = 0x04,
    BRR = 0x08,
    CR1 = 0x0c
};

void port_console_init(void)
{
    *port_register(RCC_AHB1ENR) |= 1u << 0;
    *port_register(RCC_APB1ENR) |= 1u << 17;
    (void)*port_register(RCC_APB1ENR); /* the clock needs two cycles */
    *port_register(GPIOA_AFRL) = (*port_register(GPIOA_AFRL) & ~(0xffu << 8)) | 0x77u << 8;
    *port_register(GPIOA_MODER) = (*port_register(GPIOA_MODER) & ~(0xfu << 4)) | 0xau << 4;
    *port_register(PORT_CONSOLE_BASE + BRR) =
        (PORT_CONSOLE_CLOCK_HZ + PORT_CONSOLE_BAUD / 2u) / PORT_CONSOLE_BAUD;
    *port_register(PORT_CONSOLE_BASE + CR1) = 1u << 13 | 3u << 2; /* USART, both ways, on */
#if PORT_TRIGGER
    *port_register(RCC_AHB1ENR) |= 1u << (PORT_TRIGGER_PORT >> 10 & 0xfu);
    stm32_trigger_init();
#endif
}

void port_console_put(char c)
{
    while ((*port_register(PORT_CONSOLE_BASE + SR) & 1u << 7) == 0) { /* TXE */
    }
    *port_register(PORT_CONSOLE_BASE + DR) = (uint8_t)c;
}

int port_console_get(void)
{
    while ((*port_register(PORT_CONSOLE_BASE + SR) & 1u << 5) == 0) { /* RXNE */
    }
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + DR);
}

void port_trigger(int level)
{
    stm32_trigger(level);
}
