/*
 * console_stm32l4.c - STM32L4 and L4+ (RM0351, RM0432): LPUART1 on PG7 and PG8 (Nucleo-144), or
 * USART1 on PB6 and PB7 (B-L475E-IOT01A), clocked by PCLK, which is the core's clock.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "stm32.h"

#define RCC_CR 0x40021000u
#define RCC_CFGR 0x40021008u
#define RCC_PLLCFGR 0x4002100cu
#define RCC_AHB2ENR 0x4002104cu
#define RCC_APB1ENR1 0x40021058u
#define RCC_APB1ENR2 0x4002105cu
#define RCC_APB2ENR 0x40021060u
#define FLASH_ACR 0x40022000u
#define PWR_CR2 0x40007004u /* bit 9: IOSV, supply of port G is valid */
#define PWR_CR5 0x40007080u /* bit 8: R1MODE, 0 for range 1 boost (L4+) */
#define GPIOB 0x48000400u
#define GPIOG 0x48001800u
#define LPUART1 0x40008000u

#define RANGE_1_HZ 80000000u /* the most without boost */

static void clock_init(void)
{
    const uint32_t wait_states = PORT_CLOCK_HZ > RANGE_1_HZ ? 5u : 4u;
    *port_register(RCC_APB1ENR1) |= 1u << 28; /* PWR */
    (void)*port_register(RCC_APB1ENR1);
    *port_register(RCC_CR) |= 1u << 8; /* HSI16 */
    stm32_wait(RCC_CR, 1u << 10, 1u << 10);
    if (PORT_CLOCK_HZ > RANGE_1_HZ) {
        *port_register(PWR_CR5) &= ~(1u << 8);
        stm32_write(RCC_CFGR, 0xfu << 4, 8u << 4); /* half the clock while it rises */
    }
    *port_register(FLASH_ACR) = wait_states | 7u << 8; /* prefetch, both caches */
    stm32_wait(FLASH_ACR, 7u, wait_states);
    /* HSI16 * N / 2 */
    *port_register(RCC_PLLCFGR) = 2u | PORT_CLOCK_HZ / 8000000u << 8 | 1u << 24;
    *port_register(RCC_CR) |= 1u << 24; /* PLLON */
    stm32_wait(RCC_CR, 1u << 25, 1u << 25);
    stm32_write(RCC_CFGR, 3u, 3u);
    stm32_wait(RCC_CFGR, 3u << 2, 3u << 2);
    if (PORT_CLOCK_HZ > RANGE_1_HZ) {
        for (volatile unsigned i = 0; i < 100; i++) { /* more than a microsecond */
        }
        stm32_write(RCC_CFGR, 0xfu << 4, 0);
    }
}

void port_console_init(void)
{
    clock_init();
#if PORT_CONSOLE_BASE == LPUART1
    *port_register(RCC_APB1ENR2) |= 1u; /* LPUART1 */
    *port_register(RCC_AHB2ENR) |= STM32_PORT_BIT(GPIOG) | STM32_TRIGGER_PORT_BIT;
    (void)*port_register(RCC_AHB2ENR);
    *port_register(PWR_CR2) |= 1u << 9;
    stm32_alternate(GPIOG, 7, 8);
    stm32_alternate(GPIOG, 8, 8);
    stm32_uart_init(
        (uint32_t)((256ull * PORT_CONSOLE_CLOCK_HZ + PORT_CONSOLE_BAUD / 2u) / PORT_CONSOLE_BAUD));
#else
    *port_register(RCC_APB2ENR) |= 1u << 14; /* USART1 */
    *port_register(RCC_AHB2ENR) |= STM32_PORT_BIT(GPIOB) | STM32_TRIGGER_PORT_BIT;
    (void)*port_register(RCC_AHB2ENR);
    stm32_alternate(GPIOB, 6, 7);
    stm32_alternate(GPIOB, 7, 7);
    stm32_uart_init(STM32_UART_BITS);
#endif
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
