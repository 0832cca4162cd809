/*
 * main_emulated.c - run a batch of inputs from a file, write what happened to another.
 *
 * input.bin:  u32 samples, u32 inputs, u32 size of each input in bytes, then for each
 *             sample all inputs in order. Little-endian, like everything here.
 * result.bin: records of u32 tag, u32 size, then `size` bytes. sdk/emulation/protocol.py
 *             reads them and holds the same tags.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "semihost.h"
#include "zs.h"

enum tag {
    TAG_STATUS = 1,  /* u32 stage (0 init, 1 run), i32 zs_status, text */
    TAG_OUTPUT_INFO, /* u32 dtype, u32 rank, u32 dims[4], u32 size */
    TAG_BAD_INPUT,   /* u32 index, u32 bytes wanted, u32 bytes given */
    TAG_OP,          /* u32 op index, u32 MACs executed */
    TAG_OUTPUT,      /* the output's bytes; all outputs of a sample in order */
    TAG_FAULT,       /* u32 pc, u32 lr, u32 CFSR; PORT_LOST as pc: stack overflow */
    TAG_STACK,       /* u32 bytes used, u32 bytes reserved */
    TAG_DONE,        /* nothing: the run is complete */
};

enum exit_status {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1,
    EXIT_IO = 2,
    EXIT_FAULT = 3
};

/* -1 until open: a fault before that cannot be reported in full. */
static int results = -1;

static void write_or_exit(const void *from, size_t size)
{
    if (!semihost_write(results, from, size)) {
        semihost_print("zeroskip firmware: cannot write result.bin\n");
        semihost_exit(EXIT_IO);
    }
}

static void put(enum tag tag, const void *payload, size_t size)
{
    const uint32_t head[2] = { (uint32_t)tag, (uint32_t)size };
    write_or_exit(head, sizeof head);
    write_or_exit(payload, size);
}

static void put_status(uint32_t stage, enum zs_status status)
{
    const char *text = zs_strerror(status);
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    const uint32_t head[4] = { TAG_STATUS, (uint32_t)(8u + length), stage, (uint32_t)status };
    write_or_exit(head, sizeof head);
    write_or_exit(text, length);
}

void port_on_fault(uint32_t pc, uint32_t lr, uint32_t cause)
{
    if (results >= 0) {
        const uint32_t fault[3] = { pc, lr, cause };
        put(TAG_FAULT, fault, sizeof fault);
    }
    semihost_exit(EXIT_FAULT);
}

static void read_or_exit(int file, void *to, size_t size)
{
    if (!semihost_read(file, to, size)) {
        semihost_print("zeroskip firmware: input.bin is too short\n");
        semihost_exit(EXIT_IO);
    }
}

/* Also a mark: nothing is counted from here until port_mark_between(). */
void port_op_end(void *user, unsigned op, uint32_t macs_executed);
void port_op_end(void *user, unsigned op, uint32_t macs_executed)
{
    (void)user;
    const uint32_t record[4] = { TAG_OP, 8, op, macs_executed };
    write_or_exit(record, sizeof record);
    port_mark_between();
}

static void check_inputs(const struct zs_model *model, int file)
{
    uint32_t count = 0;
    read_or_exit(file, &count, sizeof count);
    const unsigned wanted = zs_input_count(model);
    if (count != wanted) {
        const uint32_t bad[3] = { UINT32_MAX, wanted, count };
        put(TAG_BAD_INPUT, bad, sizeof bad);
        semihost_exit(EXIT_REFUSED);
    }
    for (unsigned i = 0; i < wanted; i++) {
        uint32_t size = 0;
        struct zs_tensor_info info;
        read_or_exit(file, &size, sizeof size);
        (void)zs_input_info(model, i, &info);
        if (size != info.size) {
            const uint32_t bad[3] = { i, (uint32_t)info.size, size };
            put(TAG_BAD_INPUT, bad, sizeof bad);
            semihost_exit(EXIT_REFUSED);
        }
    }
}

static void describe_outputs(const struct zs_model *model)
{
    for (unsigned i = 0; i < zs_output_count(model); i++) {
        struct zs_tensor_info info;
        (void)zs_output_info(model, i, &info);
        uint32_t record[7] = { (uint32_t)info.dtype, info.rank, 0, 0, 0, 0, (uint32_t)info.size };
        for (unsigned d = 0; d < info.rank; d++) {
            record[2 + d] = info.dims[d];
        }
        put(TAG_OUTPUT_INFO, record, sizeof record);
    }
}

int main(void)
{
    results = semihost_open("result.bin", SEMIHOST_WRITE);
    const int inputs = semihost_open("input.bin", SEMIHOST_READ);
    if (results < 0 || inputs < 0) {
        semihost_print("zeroskip firmware: cannot open input.bin or result.bin\n");
        semihost_exit(EXIT_IO);
    }

    struct zs_model model;
    const size_t model_size = (size_t)(port_model_end - port_model_start);
    enum zs_status status = zs_model_init(&model, port_model_start, model_size);
    put_status(0, status);
    if (status != ZS_OK) {
        semihost_exit(EXIT_REFUSED);
    }
    describe_outputs(&model);
    uint32_t samples = 0;
    read_or_exit(inputs, &samples, sizeof samples);
    check_inputs(&model, inputs);

    const struct zs_hook hook = { .before = port_op_begin, .after = port_op_end, .user = NULL };
    const size_t arena_size = (size_t)(port_arena_end - port_arena_start);
    for (uint32_t sample = 0; sample < samples; sample++) {
        struct zs_tensor_info info;
        for (unsigned i = 0; i < zs_input_count(&model); i++) {
            (void)zs_input_info(&model, i, &info);
            read_or_exit(inputs, zs_input(&model, port_arena_start, i), info.size);
        }
        port_mark_run();
        status = zs_run(&model, port_arena_start, arena_size, &hook);
        port_mark_stop();
        if (status != ZS_OK) {
            put_status(1, status);
            semihost_exit(EXIT_REFUSED);
        }
        for (unsigned i = 0; i < zs_output_count(&model); i++) {
            (void)zs_output_info(&model, i, &info);
            put(TAG_OUTPUT, zs_output(&model, port_arena_start, i), info.size);
        }
    }

    const uint32_t reserved = (uint32_t)((uintptr_t)port_stack_end - (uintptr_t)port_stack_start);
    const uint32_t stack[2] = { port_stack_used(), reserved };
    put(TAG_STACK, stack, sizeof stack);
    put(TAG_DONE, NULL, 0);
    semihost_exit(EXIT_DONE);
}

/* No timer runs under the emulator. */
void port_systick(void);
void port_systick(void)
{
}
