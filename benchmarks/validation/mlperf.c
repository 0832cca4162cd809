/*
 * mlperf.c - one inference of a network as microTVM has compiled it for MLPerf Tiny.
 * INPUT and OUTPUT name the fields of its structs, WORKSPACE is the size of its memory.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "input.h"
#include "tvmgen_default.h"
#include "validation.h"

#include <stdint.h>

enum {
    ALIGNMENT = 16
};

static _Alignas(ALIGNMENT) uint8_t workspace[WORKSPACE];
static size_t used;

void *TVMBackendAllocWorkspace(int type, int device, uint64_t size, int code, int bits);
void *TVMBackendAllocWorkspace(int type, int device, uint64_t size, int code, int bits)
{
    const size_t padded = ((size_t)size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *place = workspace + used;
    (void)type;
    (void)device;
    (void)code;
    (void)bits;
    if (padded > sizeof workspace - used) {
        return NULL;
    }
    used += padded;
    return place;
}

/* What was taken last is given back first. */
int TVMBackendFreeWorkspace(int type, int device, void *place);
int TVMBackendFreeWorkspace(int type, int device, void *place)
{
    (void)type;
    (void)device;
    used = (size_t)((uint8_t *)place - workspace);
    return 0;
}

void validation_main(void)
{
    static int8_t output[OUTPUT_BYTES];
    struct tvmgen_default_inputs in = { .INPUT = input };
    struct tvmgen_default_outputs out = { .OUTPUT = output };
    validation_begin();
    const int32_t status = tvmgen_default_run(&in, &out);
    validation_end();
    validation_report(output, status == 0 ? sizeof output : 0);
}
