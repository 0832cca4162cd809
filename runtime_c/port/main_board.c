/*
 * main_board.c - run the model once on all-zero inputs and print what that took.
 *
 * A start for a program of your own, and proof that the image runs: the text ends
 * with a checksum of the outputs that can be compared with `zeroskip run`.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "zs.h"

static void print(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            port_console_put('\r');
        }
        port_console_put(*text);
    }
}

static void print_number(uint32_t value)
{
    char digits[11];
    unsigned at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0);
    print(&digits[at]);
}

static void print_hex(uint32_t value)
{
    print("0x");
    for (int shift = 28; shift >= 0; shift -= 4) {
        port_console_put("0123456789abcdef"[(value >> shift) & 0xfu]);
    }
}

static void print_field(const char *name, uint32_t value, const char *unit)
{
    print(name);
    print_number(value);
    print(unit);
}

static void finish(const char *text)
{
    print(text);
    print("\n");
    for (;;) {
        __asm__ volatile("wfi");
    }
}

void port_on_fault(uint32_t pc, uint32_t lr, uint32_t cause)
{
    print(pc == PORT_LOST ? "stack overflow: pc " : "HardFault: pc ");
    print_hex(pc);
    print(" lr ");
    print_hex(lr);
    print(" cfsr ");
    print_hex(cause);
    finish("");
}

/* CRC-32 as in zlib and PNG. */
static uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t size)
{
    crc = ~crc;
    for (; size > 0; size--) {
        crc ^= *bytes++;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

static void before(void *user, unsigned op)
{
    (void)op;
    *(uint32_t *)user = port_cycles();
}

static void after(void *user, unsigned op, uint32_t macs_executed)
{
    const uint32_t cycles = port_cycles() - *(const uint32_t *)user;
    print_field("op ", op, "");
    print_field(": ", cycles, " cycles");
    print_field(", ", macs_executed, " MACs\n");
}

int main(void)
{
    struct zs_model model;
    struct zs_tensor_info info;
    const size_t model_size = (size_t)(port_model_end - port_model_start);
    const size_t arena_size = (size_t)(port_arena_end - port_arena_start);

    port_console_init();
    print("zeroskip\n");
    print_field("model ", (uint32_t)model_size, " bytes");
    print_field(", arena ", (uint32_t)arena_size, " bytes\n");
    enum zs_status status = zs_model_init(&model, port_model_start, model_size);
    if (status != ZS_OK) {
        print("model refused: ");
        finish(zs_strerror(status));
    }
    for (unsigned i = 0; i < zs_input_count(&model); i++) {
        uint8_t *input = zs_input(&model, port_arena_start, i);
        (void)zs_input_info(&model, i, &info);
        for (size_t k = 0; k < info.size; k++) {
            input[k] = 0;
        }
    }

    uint32_t started = 0;
    const struct zs_hook hook = { .before = before, .after = after, .user = &started };
    port_cycles_start();
    status = zs_run(&model, port_arena_start, arena_size, &hook);
    if (status != ZS_OK) {
        print("run refused: ");
        finish(zs_strerror(status));
    }
    for (unsigned i = 0; i < zs_output_count(&model); i++) {
        (void)zs_output_info(&model, i, &info);
        print_field("output ", i, ": ");
        print_number((uint32_t)info.size);
        print(" bytes, crc32 ");
        print_hex(crc32(0, zs_output(&model, port_arena_start, i), info.size));
        print("\n");
    }
    print_field("stack ", port_stack_used(), " bytes\n");
    finish("done");
    return 0;
}
