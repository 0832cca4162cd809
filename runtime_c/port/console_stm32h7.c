/*
 * console_stm32h7.c - STM32H743 (RM0433) and H7A3 (RM0455) on Nucleo-144: USART3 on PD8 and PD9,
 * clocked by PCLK1, which is half the bus clock.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "stm32.h"

#define RCC 0x58024400u
#define PWR_CR3 0x5802480cu
#define PWR_CSR1 0x58024804u
#define PWR_VOS 0x58024818u /* D3CR, or SRDCR of the H7A3 */
#define SYSCFG_PWRCR 0x5800042cu
#define FLASH_ACR 0x52002000u
#define GPIOD 0x58020c00u

#define H7A3_HZ 280000000u
#define IS_H7A3 (PORT_CLOCK_HZ == H7A3_HZ)
#define RCC_AHB4ENR (RCC + (IS_H7A3 ? 0x140u : 0xe0u))
#define RCC_APB1LENR (RCC + (IS_H7A3 ? 0x148u : 0xe8u))
#define RCC_APB4ENR (RCC + (IS_H7A3 ? 0x154u : 0xf4u))

enum {
    CR = 0x00,
    CFGR = 0x10,
    CFGR1 = 0x18,
    CFGR2 = 0x1c,
    CFGR3 = 0x20,
    PLLCKSELR = 0x28,
    PLLCFGR = 0x2c,
    PLL1DIVR = 0x30
};

/* Voltage scale 0, the highest; the supply has to be settled first, and once. */
static void voltage_init(void)
{
    if (IS_H7A3) {
        stm32_write(PWR_CR3, 7u, 1u << 2); /* SMPSEN: the converter feeds the core */
        stm32_wait(PWR_CSR1, 1u << 13, 1u << 13);
        stm32_write(PWR_VOS, 3u << 14, 3u << 14);
        stm32_wait(PWR_VOS, 1u << 13, 1u << 13);
        return;
    }
    stm32_write(PWR_CR3, 3u, 1u << 1); /* LDOEN */
    stm32_wait(PWR_CSR1, 1u << 13, 1u << 13);
    stm32_write(PWR_VOS, 3u << 14, 3u << 14); /* scale 1, then overdrive */
    stm32_wait(PWR_VOS, 1u << 13, 1u << 13);
    *port_register(RCC_APB4ENR) |= 1u << 1; /* SYSCFG */
    (void)*port_register(RCC_APB4ENR);
    *port_register(SYSCFG_PWRCR) |= 1u;
    stm32_wait(PWR_VOS, 1u << 13, 1u << 13);
}

static void clock_init(void)
{
    const uint32_t flash = IS_H7A3 ? 6u | 3u << 4 : 4u | 2u << 4;
    voltage_init();
    /* 64 MHz / M * N / 2: 4 MHz * 140 for the H7A3, 16 MHz * 60 for the H743 */
    const uint32_t divide = IS_H7A3 ? 16u : 4u;
    const uint32_t multiply = 2u * (PORT_CLOCK_HZ / 1000000u) * divide / 64u;
    *port_register(RCC + PLLCKSELR) = divide << 4;
    *port_register(RCC + PLLCFGR) = (IS_H7A3 ? 2u : 3u) << 2 | 1u << 16;
    *port_register(RCC + PLL1DIVR) = (multiply - 1u) | 1u << 9 | 1u << 16 | 1u << 24;
    *port_register(RCC + CR) |= 1u << 24; /* PLL1ON */
    stm32_wait(RCC + CR, 1u << 25, 1u << 25);
    *port_register(FLASH_ACR) = flash;
    stm32_wait(FLASH_ACR, 0x3fu, flash);
    /* The bus at the core's clock, or half of it; the peripherals at half of that. */
    *port_register(RCC + CFGR1) = (IS_H7A3 ? 0u : 8u) | 4u << 4;
    *port_register(RCC + CFGR2) = 4u << 4 | 4u << 8;
    *port_register(RCC + CFGR3) = 4u << 4;
    stm32_write(RCC + CFGR, 7u, 3u);
    stm32_wait(RCC + CFGR, 7u << 3, 3u << 3);
}

void port_console_init(void)
{
    clock_init();
    stm32_caches_on();
    *port_register(RCC_AHB4ENR) |= STM32_PORT_BIT(GPIOD) | STM32_TRIGGER_PORT_BIT;
    *port_register(RCC_APB1LENR) |= 1u << 18; /* USART3 */
    (void)*port_register(RCC_APB1LENR);
    stm32_alternate(GPIOD, 8, 7);
    stm32_alternate(GPIOD, 9, 7);
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
