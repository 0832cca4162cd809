/*
 * stm32.h - what STM32 families share: GPIO ports, the UART from the F7 on, the trigger pin.
 * Register offsets are those of ST's device headers (github.com/STMicroelectronics/cmsis_device_*).
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STM32_H
#define STM32_H

#include "port.h"

enum {
    STM32_GPIO_MODER = 0x00,
    STM32_GPIO_BSRR = 0x18,
    STM32_GPIO_AFR = 0x20
};

static inline void stm32_write(uint32_t address, uint32_t mask, uint32_t value)
{
    *port_register(address) = (*port_register(address) & ~mask) | value;
}

static inline void stm32_wait(uint32_t address, uint32_t mask, uint32_t value)
{
    while ((*port_register(address) & mask) != value) {
    }
}

/* The pin of a port, whose clock is on, as alternate function. */
static inline void stm32_alternate(uint32_t port, unsigned pin, uint32_t function)
{
    const unsigned at = 4u * (pin & 7u);
    stm32_write(port + STM32_GPIO_AFR + 4u * (pin >> 3), 0xfu << at, function << at);
    stm32_write(port + STM32_GPIO_MODER, 3u << 2u * pin, 2u << 2u * pin);
}

/* The bit of a port's clock: ports lie 0x400 apart, and their bits one. */
#define STM32_PORT_BIT(port) (1u << ((port) >> 10 & 0xfu))

/* The trigger pin, of a port whose clock is on. */
#if PORT_TRIGGER

#define STM32_TRIGGER_PORT_BIT STM32_PORT_BIT(PORT_TRIGGER_PORT)

static inline void stm32_trigger(int level)
{
    *port_register(PORT_TRIGGER_PORT + STM32_GPIO_BSRR) =
        1u << (level != 0 ? PORT_TRIGGER_BIT : PORT_TRIGGER_BIT + 16u);
}

static inline void stm32_trigger_init(void)
{
    stm32_trigger(1);
    stm32_write(PORT_TRIGGER_PORT + STM32_GPIO_MODER, 3u << 2u * PORT_TRIGGER_BIT,
                1u << 2u * PORT_TRIGGER_BIT);
}

#else

#define STM32_TRIGGER_PORT_BIT 0u

static inline void stm32_trigger(int level)
{
    (void)level;
}

static inline void stm32_trigger_init(void)
{
}

#endif

/* The UART of F7, H7, L4 and U5 at PORT_CONSOLE_BASE, its clock on and its pins set. */
enum {
    STM32_UART_CR1 = 0x00,
    STM32_UART_BRR = 0x0c,
    STM32_UART_ISR = 0x1c,
    STM32_UART_RDR = 0x24,
    STM32_UART_TDR = 0x28
};

static inline void stm32_uart_init(uint32_t clocks_per_bit)
{
    *port_register(PORT_CONSOLE_BASE + STM32_UART_BRR) = clocks_per_bit;
    *port_register(PORT_CONSOLE_BASE + STM32_UART_CR1) = 3u << 2 | 1u; /* both ways, on */
}

static inline void stm32_uart_put(char c)
{
    stm32_wait(PORT_CONSOLE_BASE + STM32_UART_ISR, 1u << 7, 1u << 7); /* TXE */
    *port_register(PORT_CONSOLE_BASE + STM32_UART_TDR) = (uint8_t)c;
}

static inline int stm32_uart_get(void)
{
    stm32_wait(PORT_CONSOLE_BASE + STM32_UART_ISR, 1u << 5, 1u << 5); /* RXNE */
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + STM32_UART_RDR);
}

#define STM32_UART_BITS ((PORT_CONSOLE_CLOCK_HZ + PORT_CONSOLE_BAUD / 2u) / PORT_CONSOLE_BAUD)

/* Instruction and data cache of a Cortex-M7, empty, on (Arm DUI 0646C, section 4.8). */
static inline void stm32_caches_on(void)
{
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    *port_register(0xe000ef50u) = 0; /* ICIALLU */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    const uint32_t size = *port_register(0xe000ed80u); /* CCSIDR: of the data cache after reset */
    const uint32_t sets = size >> 13 & 0x7fffu;
    const uint32_t ways = size >> 3 & 0x3ffu;
    for (uint32_t set = 0; set <= sets; set++) {
        for (uint32_t way = 0; way <= ways; way++) {
            *port_register(0xe000ef60u) = set << 5 | way << 30; /* DCISW */
        }
    }
    __asm__ volatile("dsb" ::: "memory");
    *port_register(0xe000ed14u) |= 3u << 16; /* CCR: IC, DC */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

#endif
