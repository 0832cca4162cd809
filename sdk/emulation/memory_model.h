/*
 * memory_model.h - cycles that a core waits for its flash.
 *
 * A read of the flash array gives `read_bytes` aligned bytes and takes `wait_states` more
 * cycles than a read of RAM. Instructions and data have caches, or share one, or have none;
 * lines are filled as far as they are read, and the least recently used one goes. With
 * prefetch the next bytes are under way while those before them execute, which is taken to
 * last a cycle per halfword. What is not modelled: contention between the two buses.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MEMORY_MODEL_H
#define MEMORY_MODEL_H

#include <stdbool.h>
#include <stdint.h>

struct cache_shape {
    uint32_t size; /* 0: none */
    uint32_t line_bytes;
    uint32_t ways;
};

struct memory_shape {
    uint32_t start; /* of the flash */
    uint32_t size;
    uint32_t wait_states;
    uint32_t read_bytes;
    uint32_t prefetch;
    uint32_t unified; /* data goes through the instruction cache */
    struct cache_shape instructions;
    struct cache_shape data;
};

struct memory_counts {
    uint64_t fetches; /* of read_bytes */
    uint64_t fetch_misses;
    uint64_t fetch_stalls; /* cycles */
    uint64_t loads;
    uint64_t load_misses;
    uint64_t load_stalls; /* cycles */
};

struct memory_model;

/* NULL if memory ran out. */
struct memory_model *memory_new(const struct memory_shape *shape);
void memory_free(struct memory_model *memory);

/* Code of `size` bytes at `address` executes; `counts` may be NULL. */
void memory_fetch(struct memory_model *memory, uint32_t address, uint32_t size,
                  struct memory_counts *counts);

/* Data at `address` is read. */
void memory_load(struct memory_model *memory, uint32_t address, struct memory_counts *counts);

#endif
