/*
 * console_stm32f7.c - STM32F746 Discovery: USART1 on PA9 and PB7 (UM1907), clocked by PCLK2.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "stm32f.h"

void port_console_init(void)
{
    stm32f_clock_init(7u | 3u << 8); /* 7 wait states, prefetch, ART accelerator */
    stm32_caches_on();
    *port_register(RCC_AHB1ENR) |=
        STM32_PORT_BIT(GPIOA) | STM32_PORT_BIT(GPIOB) | STM32_TRIGGER_PORT_BIT;
    *port_register(RCC_APB2ENR) |= 1u << 4; /* USART1 */
    (void)*port_register(RCC_APB2ENR);
    stm32_alternate(GPIOA, 9, 7);
    stm32_alternate(GPIOB, 7, 7);
    stm32_uart_init(STM32_UART_BITS);
    stm32_trigger_init();
}

void port_console_put(char c)
{
    stm32_uart_put(c);
}

int port_console_get(void)
{
    return stm32_uart_get();
}

void port_trigger(int level)
{
    stm32_trigger(level);
}
