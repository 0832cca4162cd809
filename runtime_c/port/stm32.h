/*
 * stm32.h - the trigger pin of STM32 from the F2 on, whose GPIO ports have the same registers.
 * The port's clock is on already.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STM32_H
#define STM32_H

#include "port.h"

enum {
    STM32_GPIO_MODER = 0x00,
    STM32_GPIO_BSRR = 0x18
};

#if PORT_TRIGGER

static inline void stm32_trigger(int level)
{
    *port_register(PORT_TRIGGER_PORT + STM32_GPIO_BSRR) =
        1u << (level != 0 ? PORT_TRIGGER_BIT : PORT_TRIGGER_BIT + 16u);
}

static inline void stm32_trigger_init(void)
{
    volatile uint32_t *mode = port_register(PORT_TRIGGER_PORT + STM32_GPIO_MODER);
    stm32_trigger(1);
    *mode = (*mode & ~(3u << 2u * PORT_TRIGGER_BIT)) | 1u << 2u * PORT_TRIGGER_BIT;
}

#else

static inline void stm32_trigger(int level)
{
    (void)level;
}

#endif

#endif
