/* memory_model.c - see memory_model.h. SPDX-License-Identifier: Apache-2.0 */
#include "memory_model.h"

#include <stddef.h>
#include <stdlib.h>

#define NOWHERE UINT32_MAX

struct line {
    uint32_t tag;     /* address of its first byte */
    uint64_t present; /* a bit for each read_bytes */
    uint64_t used;
};

struct cache {
    struct line *lines; /* sets x ways */
    uint32_t line_bytes;
    uint32_t ways;
    uint32_t sets;
};

struct memory_model {
    struct memory_shape shape;
    struct cache instructions;
    struct cache data;
    uint64_t clock;   /* orders uses */
    uint32_t current; /* the read that instructions come from */
    uint32_t spent;   /* bytes of it that have executed */
};

static bool cache_init(struct cache *cache, const struct cache_shape *shape)
{
    if (shape->size == 0) {
        return true;
    }
    cache->line_bytes = shape->line_bytes;
    cache->ways = shape->ways;
    cache->sets = shape->size / (shape->line_bytes * shape->ways);
    cache->lines = calloc((size_t)cache->sets * cache->ways, sizeof *cache->lines);
    return cache->lines != NULL;
}

struct memory_model *memory_new(const struct memory_shape *shape)
{
    struct memory_model *memory = calloc(1, sizeof *memory);
    if (memory == NULL) {
        return NULL;
    }
    memory->shape = *shape;
    memory->current = NOWHERE;
    if (!cache_init(&memory->instructions, &shape->instructions)
        || !cache_init(&memory->data, &shape->data)) {
        memory_free(memory);
        return NULL;
    }
    return memory;
}

void memory_free(struct memory_model *memory)
{
    if (memory != NULL) {
        free(memory->instructions.lines);
        free(memory->data.lines);
    }
    free(memory);
}

/* Whether the read at `address` hits; afterwards the cache has it. */
static bool hits(struct memory_model *memory, struct cache *cache, uint32_t address)
{
    if (cache->lines == NULL) {
        return false;
    }
    const uint32_t tag = address - address % cache->line_bytes;
    const uint64_t bit = UINT64_C(1) << (address - tag) / memory->shape.read_bytes % 64u;
    struct line *set = &cache->lines[tag / cache->line_bytes % cache->sets * cache->ways];
    struct line *oldest = set;
    memory->clock++;
    for (uint32_t way = 0; way < cache->ways; way++) {
        struct line *line = &set[way];
        if (line->present != 0 && line->tag == tag) {
            const bool hit = (line->present & bit) != 0;
            line->present |= bit;
            line->used = memory->clock;
            return hit;
        }
        if (line->used < oldest->used) {
            oldest = line;
        }
    }
    *oldest = (struct line){ .tag = tag, .present = bit, .used = memory->clock };
    return false;
}

static bool in_flash(const struct memory_shape *shape, uint32_t address)
{
    return address - shape->start < shape->size;
}

void memory_fetch(struct memory_model *memory, uint32_t address, uint32_t size,
                  struct memory_counts *counts)
{
    const struct memory_shape *shape = &memory->shape;
    const uint32_t end = address + size;
    if (!in_flash(shape, address)) {
        memory->current = NOWHERE;
        return;
    }
    while (address < end) {
        const uint32_t read = address - address % shape->read_bytes;
        const uint32_t next = read + shape->read_bytes;
        const uint32_t bytes = (next < end ? next : end) - address;
        if (read != memory->current) {
            uint32_t stalls = 0;
            const bool hit = hits(memory, &memory->instructions, read);
            if (!hit) {
                const bool ahead = shape->prefetch != 0 && memory->current != NOWHERE
                                   && read == memory->current + shape->read_bytes;
                const uint32_t gone = ahead ? memory->spent / 2u : 0;
                stalls = gone < shape->wait_states ? shape->wait_states - gone : 0;
            }
            if (counts != NULL) {
                counts->fetches++;
                counts->fetch_misses += !hit;
                counts->fetch_stalls += stalls;
            }
            memory->current = read;
            memory->spent = 0;
        }
        memory->spent += bytes;
        address += bytes;
    }
}

void memory_load(struct memory_model *memory, uint32_t address, struct memory_counts *counts)
{
    const struct memory_shape *shape = &memory->shape;
    if (!in_flash(shape, address)) {
        return;
    }
    struct cache *cache = shape->unified != 0 ? &memory->instructions : &memory->data;
    const bool hit = hits(memory, cache, address - address % shape->read_bytes);
    if (counts != NULL) {
        counts->loads++;
        counts->load_misses += !hit;
        counts->load_stalls += hit ? 0 : shape->wait_states;
    }
}
