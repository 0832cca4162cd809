/*
 * console_stm32f4.c - STM32F4: USART2 on PA2 and PA3 (RM0090, RM0390), clocked by PCLK1.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "stm32f.h"

enum {
    SR = 0x00,
    DR = 0x04,
    BRR = 0x08,
    CR1 = 0x0c
};

void port_console_init(void)
{
    stm32f_clock_init(5u | 7u << 8); /* 5 wait states, prefetch, both caches */
    *port_register(RCC_AHB1ENR) |= STM32_PORT_BIT(GPIOA) | STM32_TRIGGER_PORT_BIT;
    *port_register(RCC_APB1ENR) |= 1u << 17; /* USART2 */
    (void)*port_register(RCC_APB1ENR);       /* the clock needs two cycles */
    stm32_alternate(GPIOA, 2, 7);
    stm32_alternate(GPIOA, 3, 7);
    *port_register(PORT_CONSOLE_BASE + BRR) = STM32_UART_BITS;
    *port_register(PORT_CONSOLE_BASE + CR1) = 1u << 13 | 3u << 2; /* USART, both ways, on */
    stm32_trigger_init();
}

void port_console_put(char c)
{
    stm32_wait(PORT_CONSOLE_BASE + SR, 1u << 7, 1u << 7); /* TXE */
    *port_register(PORT_CONSOLE_BASE + DR) = (uint8_t)c;
}

int port_console_get(void)
{
    stm32_wait(PORT_CONSOLE_BASE + SR, 1u << 5, 1u << 5); /* RXNE */
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + DR);
}

void port_trigger(int level)
{
    stm32_trigger(level);
}
