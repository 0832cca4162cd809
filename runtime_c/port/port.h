/*
 * port.h - what start-up code, console and main program share.
 *
 * The port runs the zeroskip runtime on a bare Cortex-M: own start-up, no C
 * library. Symbols of the linker script (link.ld.in) are declared as arrays.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PORT_H
#define PORT_H

#include <stddef.h>
#include <stdint.h>

/* The container, in flash. */
extern const uint8_t port_model_start[];
extern const uint8_t port_model_end[];

/* What the firmware calls it, ended by a zero. */
extern const char port_model_name[];

/* The inputs as they were loaded, in RAM; empty if there is no room for them beside the arena. */
extern uint8_t port_input_start[];
extern uint8_t port_input_end[];

/* The runtime's arena and the stack, in RAM. */
extern uint8_t port_arena_start[];
extern uint8_t port_arena_end[];
extern uint32_t port_stack_start[];
extern uint32_t port_stack_end[];

/* Registers are 32 bits wide on every part here. */
static inline volatile uint32_t *port_register(uint32_t address)
{
    return (volatile uint32_t *)(uintptr_t)address;
}

/* Bytes of stack touched since reset, found by the pattern start-up painted. */
uint32_t port_stack_used(void);

/* The `pc` and `lr` of a fault whose frame is outside the stack: the stack overflowed. */
#define PORT_LOST UINT32_MAX

/* Entered on reset and on a fault; the main program supplies both. */
int main(void);
void port_on_fault(uint32_t pc, uint32_t lr, uint32_t cause);

/*
 * Of the family, <driver>.c: clocks at the board's maximum, the serial port, the trigger.
 * port_console_get() waits for a character.
 */
void port_console_init(void);
void port_console_put(char c);
int port_console_get(void);

/* The pin that power analysers watch: 1 at rest, a falling edge begins and ends a timed run. */
void port_trigger(int level);

/* Processor cycles since port_cycles_start(), modulo 2^32. */
void port_cycles_start(void);
uint32_t port_cycles(void);

/*
 * Marks for the instruction counter of sdk/emulation: entering one of these
 * functions switches what executed blocks are counted for. They do nothing.
 */
void port_mark_run(void);                    /* a zs_run() begins: not in an op yet */
void port_op_begin(void *user, unsigned op); /* the next op */
void port_mark_between(void);                /* between two ops */
void port_mark_stop(void);                   /* count nothing */

#endif
