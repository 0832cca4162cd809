/* startup.c - vector table, reset, faults, stack painting. SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#define STACK_PATTERN 0x5a5ac3c3u

extern uint32_t port_data_start[];
extern uint32_t port_data_end[];
extern const uint32_t port_data_load[];
extern uint32_t port_bss_start[];
extern uint32_t port_bss_end[];

void port_reset(void);
void port_hang(void);
void port_hardfault(void);
void port_systick(void);
void port_fault_report(const uint32_t *frame);

struct vectors {
    uint32_t *stack;
    void (*handlers[15])(void);
};

__attribute__((section(".vectors"), used)) const struct vectors port_vectors = {
    .stack = port_stack_end,
    .handlers = {
        port_reset,     /* 1 */
        port_hang,      /* 2 NMI */
        port_hardfault, /* 3 */
        port_hardfault, /* 4 MemManage */
        port_hardfault, /* 5 BusFault */
        port_hardfault, /* 6 UsageFault */
        port_hardfault, /* 7 SecureFault */
        port_hang, port_hang, port_hang,
        port_hang,      /* 11 SVCall */
        port_hang, port_hang,
        port_hang,      /* 14 PendSV */
        port_systick,   /* 15 */
    },
};

/* The stack is the lowest part of RAM: running over its end faults, and harms nothing. */
static void stack_paint(void)
{
    uint32_t here = 0;
    volatile uint32_t *word = port_stack_start;
    const volatile uint32_t *end = (const volatile uint32_t *)((uintptr_t)&here - 64u);
    while (word < end) {
        *word++ = STACK_PATTERN;
    }
}

uint32_t port_stack_used(void)
{
    const volatile uint32_t *word = port_stack_start;
    while (word < port_stack_end && *word == STACK_PATTERN) {
        word++;
    }
    return (uint32_t)((uintptr_t)port_stack_end - (uintptr_t)word);
}

void port_reset(void)
{
#if defined(__ARM_FP) && !defined(__SOFTFP__)
    *port_register(0xe000ed88u) |= 0xfu << 20; /* CPACR: FPU on */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
#if PORT_TRAP_UNALIGNED
    /* Emulated on a core that allows what this one does not. */
    *port_register(0xe000ed14u) |= 1u << 3; /* CCR.UNALIGN_TRP */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    stack_paint();
    const volatile uint32_t *from = port_data_load;
    for (volatile uint32_t *to = port_data_start; to < port_data_end; to++) {
        *to = *from++;
    }
    for (volatile uint32_t *to = port_bss_start; to < port_bss_end; to++) {
        *to = 0;
    }
    (void)main();
    port_hang();
}

void port_hang(void)
{
    for (;;) {
        __asm__ volatile("" ::: "memory");
    }
}

/* The report runs on a fresh stack: the old one may be what overflowed. */
__attribute__((naked)) void port_hardfault(void)
{
    __asm__ volatile("mrs r0, msp\n\t"
                     "ldr r1, 1f\n\t"
                     "mov sp, r1\n\t"
                     "bl port_fault_report\n\t"
                     "b .\n\t"
                     ".balign 4\n"
                     "1: .word port_stack_end");
}

void port_fault_report(const uint32_t *frame)
{
    uint32_t pc = PORT_LOST;
    uint32_t lr = PORT_LOST;
    uint32_t cause = 0;
    const uintptr_t place = (uintptr_t)frame;
    if (place >= (uintptr_t)port_stack_start && place + 32u <= (uintptr_t)port_stack_end) {
        lr = frame[5];
        pc = frame[6];
    }
#if __ARM_ARCH_ISA_THUMB == 2
    cause = *port_register(0xe000ed28u); /* CFSR */
#endif
    port_on_fault(pc, lr, cause);
    port_hang();
}
