/*
 * trace.h - count how often basic blocks and the branches between them execute, how often a
 * branch goes against its prediction, and the cycles that the core waits for its flash.
 *
 * Shared by the QEMU plugin and the Unicorn hook. What is executed is counted for a
 * region: 0 is the runtime between two ops, 1 + k is op k, and nothing is counted outside.
 * Entering one of the port's mark functions (runtime_c/port/port.h) switches the region.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TRACE_H
#define TRACE_H

#include "memory_model.h"

#include <stdbool.h>
#include <stdint.h>

/* Addresses of the port's functions, without the Thumb bit. */
struct trace_marks {
    uint32_t run;     /* port_mark_run: region 0, the next op is op 0 */
    uint32_t op;      /* port_op_begin: the region of the next op */
    uint32_t op_end;  /* port_op_end: count nothing */
    uint32_t between; /* port_mark_between: region 0 */
    uint32_t stop;    /* port_mark_stop: count nothing */
};

struct trace;
struct trace_block;

/* Without `shape` nothing is counted of the flash. NULL if memory ran out. */
struct trace *trace_new(const struct trace_marks *marks, const struct memory_shape *shape);
void trace_free(struct trace *trace);

/* The block of `size` bytes at `address`, made on first use; NULL if memory ran out. */
struct trace_block *trace_block(struct trace *trace, uint32_t address, uint32_t size);

/* `block` is about to execute. NULL is ignored. */
void trace_enter(struct trace *trace, struct trace_block *block);

/* Data at `address` is read. */
void trace_load(struct trace *trace, uint32_t address);

/*
 * Write lines, all numbers in decimal, then "END":
 *   B address size region count             executions of a block
 *   E address size target region count      branches from a block
 *   P address size region count             of those, not as a two-bit counter predicts
 *   W address size region cycles            waits for a block's code and for what it loads
 *   M region fetches misses stalls loads misses stalls
 * False if the file could not be written or memory had run out.
 */
bool trace_write(const struct trace *trace, const char *path);

/* Unicorn's UC_HOOK_BLOCK and UC_HOOK_MEM_READ callbacks; `user` is the trace. */
void trace_unicorn_block(void *engine, uint64_t address, uint32_t size, void *user);
void trace_unicorn_load(void *engine, int type, uint64_t address, int size, int64_t value,
                        void *user);

#endif
