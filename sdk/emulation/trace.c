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
    uint32_t address;
    uint32_t size;
    enum action action;
};

struct trace {
    struct trace_block *buckets[BUCKETS];
    struct trace_block *previous;
    struct trace_marks marks;
    uint32_t region;
    uint32_t next_op;
    bool failed; /* memory ran out: the counts are incomplete */
};

struct trace *trace_new(const struct trace_marks *marks)
{
    struct trace *trace = calloc(1, sizeof *trace);
    if (trace != NULL) {
        trace->marks = *marks;
        trace->region = PAUSED;
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
            free(block);
            block = next_block;
        }
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

static void count(struct trace *trace, struct counts *counts)
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
    counts->of_region[trace->region]++;
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
    count(trace, &edge->counts);
}

/* A branch belongs to the region it leaves, so it is counted before the switch. */
void trace_enter(struct trace *trace, struct trace_block *block)
{
    if (block == NULL) {
        return;
    }
    if (trace->region != PAUSED && trace->previous != NULL) {
        count_edge(trace, trace->previous, block);
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
    if (trace->region == PAUSED) {
        trace->previous = NULL;
        return;
    }
    count(trace, &block->counts);
    trace->previous = block;
}

bool trace_write(const struct trace *trace, const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return false;
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (const struct trace_block *b = trace->buckets[i]; b != NULL; b = b->next) {
            for (uint32_t r = 0; r < b->counts.length; r++) {
                if (b->counts.of_region[r] != 0) {
                    fprintf(file, "B %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 "\n", b->address,
                            b->size, r, b->counts.of_region[r]);
                }
            }
            for (const struct trace_edge *e = b->edges; e != NULL; e = e->next) {
                for (uint32_t r = 0; r < e->counts.length; r++) {
                    if (e->counts.of_region[r] != 0) {
                        fprintf(file,
                                "E %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 "\n",
                                b->address, b->size, e->to->address, r, e->counts.of_region[r]);
                    }
                }
            }
        }
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
