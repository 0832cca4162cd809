/*
 * console_stm32u5.c - STM32U585 (RM0456) on B-U585I-IOT02A: USART1 on PA9 and PA10, clocked by
 * PCLK2, which is the core's clock; TrustZone off, as parts are delivered.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "stm32.h"

#define RCC 0x46020c00u
#define PWR_VOSR 0x4602080cu
#define FLASH_ACR 0x40022000u
#define ICACHE_CR 0x40030400u
#define GPIOA 0x42020000u

enum {
    CR = 0x00,
    CFGR1 = 0x1c,
    PLL1CFGR = 0x28,
    PLL1DIVR = 0x34,
    AHB2ENR1 = 0x8c,
    AHB3ENR = 0x94,
    APB2ENR = 0xa4
};

static void clock_init(void)
{
    *port_register(RCC + AHB3ENR) |= 1u << 2; /* PWR */
    (void)*port_register(RCC + AHB3ENR);
    stm32_write(PWR_VOSR, 3u << 16, 3u << 16); /* range 1 */
    stm32_wait(PWR_VOSR, 1u << 15, 1u << 15);
    /* MSIS at 4 MHz * 80 / 2; the booster gets 4 MHz, too */
    *port_register(RCC + PLL1CFGR) = 1u | 1u << 18;
    *port_register(RCC + PLL1DIVR) =
        (PORT_CLOCK_HZ / 2000000u - 1u) | 1u << 9 | 1u << 16 | 1u << 24;
    *port_register(PWR_VOSR) |= 1u << 18; /* BOOSTEN, needed above 55 MHz */
    stm32_wait(PWR_VOSR, 1u << 14, 1u << 14);
    *port_register(RCC + CR) |= 1u << 24; /* PLL1ON */
    stm32_wait(RCC + CR, 1u << 25, 1u << 25);
    *port_register(FLASH_ACR) = 4u | 1u << 8; /* 4 wait states, prefetch */
    stm32_wait(FLASH_ACR, 0xfu, 4u);
    stm32_write(RCC + CFGR1, 3u, 3u);
    stm32_wait(RCC + CFGR1, 3u << 2, 3u << 2);
    *port_register(ICACHE_CR) |= 1u;
}

void port_console_init(void)
{
    clock_init();
    *port_register(RCC + AHB2ENR1) |= STM32_PORT_BIT(GPIOA) | STM32_TRIGGER_PORT_BIT;
    *port_register(RCC + APB2ENR) |= 1u << 14; /* USART1 */
    (void)*port_register(RCC + APB2ENR);
    stm32_alternate(GPIOA, 9, 7);
    stm32_alternate(GPIOA, 10, 7);
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
