/*
 * console_stm32f4.c - STM32F4 USART2 on PA2 (RM0390), clocked by PCLK1.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"

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
    *port_register(GPIOA_AFRL) = (*port_register(GPIOA_AFRL) & ~(0xfu << 8)) | 7u << 8;
    *port_register(GPIOA_MODER) = (*port_register(GPIOA_MODER) & ~(3u << 4)) | 2u << 4;
    *port_register(PORT_CONSOLE_BASE + BRR) =
        (PORT_CONSOLE_CLOCK_HZ + PORT_CONSOLE_BAUD / 2u) / PORT_CONSOLE_BAUD;
    *port_register(PORT_CONSOLE_BASE + CR1) = 1u << 13 | 1u << 3; /* USART, transmitter on */
}

void port_console_put(char c)
{
    while ((*port_register(PORT_CONSOLE_BASE + SR) & 1u << 7) == 0) { /* TXE */
    }
    *port_register(PORT_CONSOLE_BASE + DR) = (uint8_t)c;
}
