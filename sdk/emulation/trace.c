/* trace.c - see trace.h. SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u
#define PAUSED UINT32_MAX

enum action {
    ACTION_NONE,
    ACTION_RUN,
    ACTION_OP,
    ACTION_PAUSE,
    ACTION_BETWEEN
};

/* Executions per region. */
struct counts {
    uint64_t *of_region;
    uint32_t length;
};

struct trace_edge {
    struct trace_edge *next;
    const struct trace_block *to;
    struct counts counts;
};

struct trace_block {
    struct trace_block *next; /* in its bucket */
    struct trace_edge *edges; /* to the blocks that followed, most recently found first */
    struct counts counts;
    struct counts mispredicted;
    struct counts waits; /* cycles, for its code and what it loads */
    uint32_t address;
    uint32_t size;
    enum action action;
    unsigned taken; /* a saturating counter of two bits: 2 and 3 predict a branch taken */
};

struct trace {
    struct trace_block *buckets[BUCKETS];
    struct trace_block *previous;
    struct trace_marks marks;
    uint32_t region;
    uint32_t next_op;
    struct memory_model *memory; /* NULL: not asked for */
    struct memory_counts *waits; /* per region */
    uint32_t waits_length;
    bool failed; /* memory ran out: the counts are incomplete */
};

struct trace *trace_new(const struct trace_marks *marks, const struct memory_shape *shape)
{
    struct trace *trace = calloc(1, sizeof *trace);
    if (trace == NULL) {
        return NULL;
    }
    trace->marks = *marks;
    trace->region = PAUSED;
    if (shape != NULL && (trace->memory = memory_new(shape)) == NULL) {
        trace_free(trace);
        return NULL;
    }
    return trace;
}

void trace_free(struct trace *trace)
{
    for (unsigned i = 0; trace != NULL && i < BUCKETS; i++) {
        for (struct trace_block *block = trace->buckets[i]; block != NULL;) {
            struct trace_block *next_block = block->next;
            for (struct trace_edge *edge = block->edges; edge != NULL;) {
                struct trace_edge *next_edge = edge->next;
                free(edge->counts.of_region);
                free(edge);
                edge = next_edge;
            }
            free(block->counts.of_region);
            free(block->mispredicted.of_region);
            free(block->waits.of_region);
            free(block);
            block = next_block;
        }
    }
    if (trace != NULL) {
        memory_free(trace->memory);
        free(trace->waits);
    }
    free(trace);
}

static enum action action_at(const struct trace_marks *marks, uint32_t address)
{
    if (address == marks->run) {
        return ACTION_RUN;
    }
    if (address == marks->op) {
        return ACTION_OP;
    }
    if (address == marks->op_end || address == marks->stop) {
        return ACTION_PAUSE;
    }
    return address == marks->between ? ACTION_BETWEEN : ACTION_NONE;
}

struct trace_block *trace_block(struct trace *trace, uint32_t address, uint32_t size)
{
    struct trace_block **bucket = &trace->buckets[(address >> 1) % BUCKETS];
    for (struct trace_block *block = *bucket; block != NULL; block = block->next) {
        if (block->address == address && block->size == size) {
            return block;
        }
    }
    struct trace_block *block = calloc(1, sizeof *block);
    if (block == NULL) {
        trace->failed = true;
        return NULL;
    }
    block->address = address;
    block->size = size;
    block->action = action_at(&trace->marks, address);
    block->next = *bucket;
    *bucket = block;
    return block;
}

static void count(struct trace *trace, struct counts *counts, uint64_t amount)
{
    if (trace->region >= counts->length) {
        const uint32_t length = trace->region + 16u;
        uint64_t *grown = realloc(counts->of_region, length * sizeof *grown);
        if (grown == NULL) {
            trace->failed = true;
            return;
        }
        memset(grown + counts->length, 0, (length - counts->length) * sizeof *grown);
        counts->of_region = grown;
        counts->length = length;
    }
    counts->of_region[trace->region] += amount;
}

static void count_edge(struct trace *trace, struct trace_block *from, const struct trace_block *to)
{
    struct trace_edge *edge = from->edges;
    while (edge != NULL && edge->to != to) {
        edge = edge->next;
    }
    if (edge == NULL) {
        edge = calloc(1, sizeof *edge);
        if (edge == NULL) {
            trace->failed = true;
            return;
        }
        edge->to = to;
        edge->next = from->edges;
        from->edges = edge;
    }
    count(trace, &edge->counts, 1);
}

static void predict(struct trace *trace, struct trace_block *from, const struct trace_block *to)
{
    const bool taken = to->address != from->address + from->size;
    if (taken != (from->taken >= 2u)) {
        count(trace, &from->mispredicted, 1);
    }
    if (taken && from->taken < 3u) {
        from->taken++;
    } else if (!taken && from->taken > 0) {
        from->taken--;
    }
}

/* Where waits are counted now, NULL for nowhere. */
static struct memory_counts *waits(struct trace *trace)
{
    if (trace->region == PAUSED) {
        return NULL;
    }
    if (trace->region >= trace->waits_length) {
        const uint32_t length = trace->region + 16u;
        struct memory_counts *grown = realloc(trace->waits, length * sizeof *grown);
        if (grown == NULL) {
            trace->failed = true;
            return NULL;
        }
        memset(grown + trace->waits_length, 0, (length - trace->waits_length) * sizeof *grown);
        trace->waits = grown;
        trace->waits_length = length;
    }
    return &trace->waits[trace->region];
}

static uint64_t stalls(const struct memory_counts *counts)
{
    return counts == NULL ? 0 : counts->fetch_stalls + counts->load_stalls;
}

/* The cycles since `before` are the block's. */
static void count_waits(struct trace *trace, struct trace_block *block,
                        const struct memory_counts *counts, uint64_t before)
{
    const uint64_t cycles = stalls(counts) - before;
    if (cycles != 0 && block != NULL) {
        count(trace, &block->waits, cycles);
    }
}

/* A branch belongs to the region it leaves, so it is counted before the switch. */
void trace_enter(struct trace *trace, struct trace_block *block)
{
    if (block == NULL) {
        return;
    }
    if (trace->region != PAUSED && trace->previous != NULL) {
        count_edge(trace, trace->previous, block);
        predict(trace, trace->previous, block);
    }
    switch (block->action) {
    case ACTION_NONE: break;
    case ACTION_RUN:
        trace->next_op = 0;
        trace->region = 0;
        break;
    case ACTION_OP:
        trace->next_op++;
        trace->region = trace->next_op;
        break;
    case ACTION_PAUSE: trace->region = PAUSED; break;
    case ACTION_BETWEEN: trace->region = 0; break;
    }
    if (trace->memory != NULL) {
        struct memory_counts *counts = waits(trace);
        const uint64_t before = stalls(counts);
        memory_fetch(trace->memory, block->address, block->size, counts);
        count_waits(trace, block, counts, before);
    }
    if (trace->region == PAUSED) {
        trace->previous = NULL;
        return;
    }
    count(trace, &block->counts, 1);
    trace->previous = block;
}

void trace_load(struct trace *trace, uint32_t address)
{
    if (trace->memory != NULL) {
        struct memory_counts *counts = waits(trace);
        const uint64_t before = stalls(counts);
        memory_load(trace->memory, address, counts);
        count_waits(trace, trace->previous, counts, before);
    }
}

/* A line for each region: kind, place, region, count. */
static void write_counts(FILE *file, char kind, const struct trace_block *block,
                         const struct trace_block *to, const struct counts *counts)
{
    for (uint32_t r = 0; r < counts->length; r++) {
        if (counts->of_region[r] == 0) {
            continue;
        }
        fprintf(file, "%c %" PRIu32 " %" PRIu32, kind, block->address, block->size);
        if (to != NULL) {
            fprintf(file, " %" PRIu32, to->address);
        }
        fprintf(file, " %" PRIu32 " %" PRIu64 "\n", r, counts->of_region[r]);
    }
}

bool trace_write(const struct trace *trace, const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return false;
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (const struct trace_block *b = trace->buckets[i]; b != NULL; b = b->next) {
            write_counts(file, 'B', b, NULL, &b->counts);
            write_counts(file, 'P', b, NULL, &b->mispredicted);
            write_counts(file, 'W', b, NULL, &b->waits);
            for (const struct trace_edge *e = b->edges; e != NULL; e = e->next) {
                write_counts(file, 'E', b, e->to, &e->counts);
            }
        }
    }
    for (uint32_t r = 0; r < trace->waits_length; r++) {
        const struct memory_counts *w = &trace->waits[r];
        fprintf(file,
                "M %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                "\n",
                r, w->fetches, w->fetch_misses, w->fetch_stalls, w->loads, w->load_misses,
                w->load_stalls);
    }
    if (!trace->failed) {
        fputs("END\n", file);
    }
    const bool written = ferror(file) == 0;
    return fclose(file) == 0 && written && !trace->failed;
}

void trace_unicorn_block(void *engine, uint64_t address, uint32_t size, void *user)
{
    struct trace *trace = user;
    (void)engine;
    trace_enter(trace, trace_block(trace, (uint32_t)address & ~1u, size));
}

void trace_unicorn_load(void *engine, int type, uint64_t address, int size, int64_t value,
                        void *user)
{
    (void)engine;
    (void)type;
    (void)size;
    (void)value;
    trace_load(user, (uint32_t)address);
}
