/* marks.S - see port.h. In assembler, so that no compiler merges or inlines them. */
/* SPDX-License-Identifier: Apache-2.0 */
    .syntax unified
    .thumb

    .macro mark name
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    bx lr
    .size \name, . - \name
    .endm

    mark port_mark_run
    mark port_op_begin
    mark port_mark_between
    mark port_mark_stop
