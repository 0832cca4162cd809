/*
 * stm32f.h - the clock of STM32F4 and F7, from the internal 16 MHz oscillator through the PLL
 * (RM0090 and RM0390, chapters 6 and 7; RM0385, chapters 4 and 5).
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STM32F_H
#define STM32F_H

#include "stm32.h"

#define RCC_CR 0x40023800u
#define RCC_PLLCFGR 0x40023804u
#define RCC_CFGR 0x40023808u
#define RCC_AHB1ENR 0x40023830u
#define RCC_APB1ENR 0x40023840u
#define RCC_APB2ENR 0x40023844u
#define PWR_CR 0x40007000u
#define PWR_CSR 0x40007004u
#define FLASH_ACR 0x40023c00u
#define GPIOA 0x40020000u
#define GPIOB 0x40020400u

#define OVER_DRIVE_HZ 168000000u /* above it, on parts that go there */

/* PORT_CLOCK_HZ, the APB1 at a quarter, the APB2 at a half; `flash` are the bits of FLASH_ACR. */
static inline void stm32f_clock_init(uint32_t flash)
{
    const uint32_t megahertz = PORT_CLOCK_HZ / 1000000u;
    *port_register(RCC_APB1ENR) |= 1u << 28; /* PWR */
    (void)*port_register(RCC_APB1ENR);
    /* 16 MHz / 8 * N / 2; 48 MHz or less for what is not used */
    *port_register(RCC_PLLCFGR) = 8u | megahertz << 6 | 9u << 24;
    *port_register(RCC_CR) |= 1u << 24; /* PLLON */
    if (PORT_CLOCK_HZ > OVER_DRIVE_HZ) {
        *port_register(PWR_CR) |= 1u << 16; /* ODEN */
        stm32_wait(PWR_CSR, 1u << 16, 1u << 16);
        *port_register(PWR_CR) |= 1u << 17; /* ODSWEN */
        stm32_wait(PWR_CSR, 1u << 17, 1u << 17);
    }
    stm32_wait(RCC_CR, 1u << 25, 1u << 25); /* PLLRDY */
    *port_register(FLASH_ACR) = flash;
    stm32_wait(FLASH_ACR, 0xfu, flash & 0xfu);
    stm32_write(RCC_CFGR, 0x3fu << 10, 5u << 10 | 4u << 13);
    stm32_write(RCC_CFGR, 3u, 2u);
    stm32_wait(RCC_CFGR, 3u << 2, 2u << 2);
}

#endif
