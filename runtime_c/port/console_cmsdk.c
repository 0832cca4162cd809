/*
 * console_cmsdk.c - UART of Arm's Cortex-M System Design Kit (DDI 0479, section 4.3).
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"

enum {
    DATA = 0x00,
    STATE = 0x04,
    CTRL = 0x08,
    BAUDDIV = 0x10
};

void port_console_init(void)
{
    *port_register(PORT_CONSOLE_BASE + BAUDDIV) = PORT_CONSOLE_CLOCK_HZ / PORT_CONSOLE_BAUD;
    *port_register(PORT_CONSOLE_BASE + CTRL) = 3u; /* transmitter and receiver on */
}

void port_console_put(char c)
{
    while ((*port_register(PORT_CONSOLE_BASE + STATE) & 1u) != 0) { /* buffer full */
    }
    *port_register(PORT_CONSOLE_BASE + DATA) = (uint8_t)c;
}

int port_console_get(void)
{
    while ((*port_register(PORT_CONSOLE_BASE + STATE) & 2u) == 0) { /* nothing received */
    }
    return (uint8_t)*port_register(PORT_CONSOLE_BASE + DATA);
}

/* Emulated boards have no pin that anybody could watch. */
void port_trigger(int level)
{
    (void)level;
}
