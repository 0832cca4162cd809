/*
 * main_harness.c - the model as a device of the MLPerf Tiny test harness, on a serial port.
 *
 * Commands end with '%' and are answered by lines, the last of which is "m-ready"; what the
 * harness knows (name, profile, timestamp, db, infer, results, help) is answered as its own
 * firmware does (github.com/mlcommons/tiny, benchmark/api/internally_implemented.cpp).
 * Commands of zeroskip's own begin with "zs-". Whatever comes over the line is checked:
 * nothing is written outside the input.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "port.h"
#include "zs.h"

#include <stdbool.h>
#include <string.h>

#define COMMAND_SIZE 120u
#define LINE_BYTES 32u
#define WARMUPS 10u

static struct zs_model model;
static char command[COMMAND_SIZE];
static uint32_t loaded;   /* bytes of the input so far */
static uint32_t expected; /* of the load under way; 0: none */
static bool energy_mode = PORT_ENERGY_MODE;
static bool has_results;
static uint64_t total_cycles; /* since start */
static uint64_t last_cycles;  /* in zs_run() since the last infer began to be timed */
static uint32_t last_read;

static void print(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            port_console_put('\r');
        }
        port_console_put(*text);
    }
}

static void print_number(uint64_t value)
{
    char digits[21];
    unsigned at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0);
    print(&digits[at]);
}

static void print_hex(uint32_t value, unsigned digits)
{
    while (digits-- > 0) {
        port_console_put("0123456789abcdef"[value >> 4u * digits & 0xfu]);
    }
}

static void print_field(const char *name, uint64_t value, const char *end)
{
    print(name);
    print_number(value);
    print(end);
}

void port_on_fault(uint32_t pc, uint32_t lr, uint32_t cause)
{
    print(pc == PORT_LOST ? "e-[stack overflow: pc " : "e-[HardFault: pc ");
    print_hex(pc, 8);
    print(" lr ");
    print_hex(lr, 8);
    print(" cfsr ");
    print_hex(cause, 8);
    print("]\n");
}

/*
 * Cycles since start. To be called more often than the counter's 32 bits wrap, which it is but
 * while a command is waited for: between commands whole wraps go missing, within one none.
 */
static uint64_t cycles(void)
{
    const uint32_t now = port_cycles();
    total_cycles += now - last_read;
    last_read = now;
    return total_cycles;
}

/* As th_timestamp() of the harness: an edge and nothing on the line in energy mode. */
static void timestamp(void)
{
    const uint64_t from = cycles();
    if (energy_mode) {
        port_trigger(0); /* 20 us: a sampling instrument has to see it */
        while (cycles() - from < PORT_CLOCK_HZ / 50000u) {
        }
        port_trigger(1);
    } else {
        const uint64_t rest = from % PORT_CLOCK_HZ * 1000000u / PORT_CLOCK_HZ;
        print_field("m-lap-us-", from / PORT_CLOCK_HZ * 1000000u + rest, "\n");
    }
}

static size_t input_bytes(void)
{
    struct zs_tensor_info info;
    size_t size = 0;
    for (unsigned i = 0; i < zs_input_count(&model); i++) {
        (void)zs_input_info(&model, i, &info);
        size += info.size;
    }
    return size;
}

/* Whether the input is kept apart from the arena, whose inferences overwrite it. */
static bool keeps_input(void)
{
    return (uintptr_t)port_input_end != (uintptr_t)port_input_start;
}

/* Where byte `index` of the inputs, one behind the other, is loaded to. */
static uint8_t *input_byte(size_t index)
{
    struct zs_tensor_info info;
    if (keeps_input()) {
        return port_input_start + index;
    }
    for (unsigned i = 0;; i++) {
        (void)zs_input_info(&model, i, &info);
        if (index < info.size) {
            return (uint8_t *)zs_input(&model, port_arena_start, i) + index;
        }
        index -= info.size;
    }
}

/* One inference; its cycles, without the copy of the input, are added to last_cycles. */
static enum zs_status run(const struct zs_hook *hook)
{
    if (keeps_input()) {
        struct zs_tensor_info info;
        const uint8_t *from = port_input_start;
        for (unsigned i = 0; i < zs_input_count(&model); i++) {
            (void)zs_input_info(&model, i, &info);
            memcpy(zs_input(&model, port_arena_start, i), from, info.size);
            from += info.size;
        }
    }
    const size_t size = (size_t)((uintptr_t)port_arena_end - (uintptr_t)port_arena_start);
    const uint64_t from = cycles();
    const enum zs_status status = zs_run(&model, port_arena_start, size, hook);
    last_cycles += cycles() - from;
    return status;
}

/* The next word of a command at *at, ended by a zero; NULL if there is none. */
static char *next_word(char **at)
{
    char *word = *at;
    while (*word == ' ') {
        word++;
    }
    char *end = word;
    while (*end != '\0' && *end != ' ') {
        end++;
    }
    *at = end;
    if (*end != '\0') {
        *end = '\0';
        *at = end + 1;
    }
    return *word == '\0' ? NULL : word;
}

static bool equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* False unless `text` is a number below 10^9. */
static bool parse_number(const char *text, uint32_t *value)
{
    *value = 0;
    unsigned digits = 0;
    for (; *text != '\0'; text++, digits++) {
        if (*text < '0' || *text > '9' || digits == 9) {
            return false;
        }
        *value = 10u * *value + (uint32_t)(*text - '0');
    }
    return digits > 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void load_bytes(const char *hex)
{
    size_t digits = 0;
    while (hex[digits] != '\0') {
        digits++;
    }
    if (expected == 0) {
        print("e-[No load under way]\n");
        return;
    }
    if (digits % 2u != 0) {
        print("e-[Insufficent number of hex digits]\n"); /* the harness's spelling */
        return;
    }
    for (; *hex != '\0' && loaded < expected; hex += 2) {
        const int high = hex_digit(hex[0]);
        const int low = hex_digit(hex[1]);
        if (high < 0 || low < 0) {
            print("e-[Invalid hex digit '");
            port_console_put(hex[0]);
            port_console_put(hex[1]);
            print("']\n");
            return;
        }
        *input_byte(loaded++) = (uint8_t)(high << 4 | low);
    }
    if (loaded == expected) {
        expected = 0;
        print("m-load-done\n");
    }
}

static void print_buffer(void)
{
    if (!keeps_input() && has_results) {
        print("e-[The input is gone: no room to keep it]\n");
        return;
    }
    for (size_t i = 0; i < loaded; i++) {
        print(i % 8u == 0 ? "m-buffer-" : "-");
        print_hex(*input_byte(i), 2);
        if (i % 8u == 7u || i + 1u == loaded) {
            print("\n");
        }
    }
}

static void db(char *rest)
{
    const char *word = next_word(&rest);
    if (word == NULL) {
        print("e-[Command 'db' requires a subcommand]\n");
    } else if (equal(word, "print")) {
        print_buffer();
    } else if (equal(word, "load")) {
        uint32_t size = 0;
        word = next_word(&rest);
        if (word == NULL) {
            print("e-[Command 'db load' requires the # of bytes]\n");
            return;
        }
        if (!parse_number(word, &size) || size != input_bytes()) {
            print_field("e-[The model takes ", input_bytes(), " bytes]\n");
            return;
        }
        expected = size;
        loaded = 0;
        has_results = false;
        print_field("m-[Expecting ", size, " bytes]\n");
    } else {
        load_bytes(word);
    }
}

static void print_results(void)
{
    struct zs_tensor_info info;
    (void)zs_output_info(&model, 0, &info);
    const void *output = zs_output(&model, port_arena_start, 0);
    const size_t width = info.dtype == ZS_FLOAT32 ? 4 : 1;
    if (!has_results) {
        print("e-[No results yet]\n");
        return;
    }
    print("m-results-[");
    for (size_t i = 0; i < info.size / width; i++) {
        float value;
        if (info.dtype == ZS_FLOAT32) {
            value = ((const float *)output)[i];
        } else {
            const int32_t q =
                info.dtype == ZS_INT8 ? ((const int8_t *)output)[i] : ((const uint8_t *)output)[i];
            value = info.scale * (float)(q - info.zero_point);
        }
        print(i > 0 ? "," : "");
        if (value < 0) {
            print("-");
            value = -value;
        }
        /* Three decimals; what is out of their range, or no number, as the largest. */
        const uint32_t thousandths = value < 4e6f ? (uint32_t)(value * 1000.0f + 0.5f) : UINT32_MAX;
        print_field("", thousandths / 1000u, ".");
        print(thousandths % 1000u < 100u ? (thousandths % 1000u < 10u ? "00" : "0") : "");
        print_number(thousandths % 1000u);
    }
    print("]\n");
}

static bool is_loaded(void)
{
    if (loaded == input_bytes() && (keeps_input() || !has_results)) {
        return true;
    }
    print("e-[Load an input first]\n");
    return false;
}

static bool run_or_say(const struct zs_hook *hook)
{
    const enum zs_status status = run(hook);
    has_results = status == ZS_OK;
    if (!has_results) {
        print("e-[");
        print(zs_strerror(status));
        print("]\n");
    }
    return has_results;
}

static void infer(char *rest)
{
    uint32_t count = 1;
    uint32_t warmups = WARMUPS;
    const char *word = next_word(&rest);
    if (word != NULL && (!parse_number(word, &count) || count == 0)) {
        print("e-[Inference iterations must be >0]\n");
        return;
    }
    word = word != NULL ? next_word(&rest) : NULL;
    if (word != NULL && !parse_number(word, &warmups)) {
        print("e-[Inference warmup must be >=0]\n");
        return;
    }
    if (!is_loaded()) {
        return;
    }
    if (!keeps_input() && (count != 1 || warmups != 0)) {
        print("e-[No room to keep the input: infer 1 0]\n");
        return;
    }
    print_field("m-warmup-start-", warmups, "\n");
    while (warmups-- > 0) {
        if (!run_or_say(NULL)) {
            return;
        }
    }
    print_field("m-warmup-done\nm-infer-start-", count, "\n");
    timestamp();
    last_cycles = 0;
    while (count-- > 0) {
        if (!run_or_say(NULL)) {
            return;
        }
    }
    timestamp();
    print("m-infer-done\n");
    print_results();
}

static void before_op(void *user, unsigned op)
{
    (void)op;
    *(uint64_t *)user = cycles();
}

static void after_op(void *user, unsigned op, uint32_t macs_executed)
{
    const uint64_t spent = cycles() - *(const uint64_t *)user;
    print_field("m-zs-op-[", op, ",");
    print_field("", spent, ",");
    print_field("", macs_executed, "]\n");
}

static void print_ops(void)
{
    uint64_t started = 0;
    const struct zs_hook hook = { .before = before_op, .after = after_op, .user = &started };
    if (is_loaded()) {
        (void)run_or_say(&hook);
    }
}

static void print_outputs(void)
{
    struct zs_tensor_info info;
    if (!has_results) {
        print("e-[No results yet]\n");
        return;
    }
    for (unsigned i = 0; i < zs_output_count(&model); i++) {
        (void)zs_output_info(&model, i, &info);
        const uint8_t *output = zs_output(&model, port_arena_start, i);
        for (size_t k = 0; k < info.size; k++) {
            if (k % LINE_BYTES == 0) {
                print_field("m-zs-output-[", i, ",");
                print_field("", k, ",");
            }
            print_hex(output[k], 2);
            if (k % LINE_BYTES == LINE_BYTES - 1u || k + 1u == info.size) {
                print("]\n");
            }
        }
    }
}

static void print_info(void)
{
    print("m-zs-board-[" PORT_BOARD_NAME "]\n");
    print("m-zs-core-[" PORT_CORE_NAME "]\n");
    print_field("m-zs-clock-hz-[", PORT_CLOCK_HZ, "]\n");
    print("m-zs-model-crc-[");
    const size_t end = (size_t)(port_model_end - port_model_start);
    for (size_t i = 1; i <= 4; i++) { /* little-endian */
        print_hex(port_model_start[end - i], 2);
    }
    print_field("]\nm-zs-model-bytes-[", end, "]\n");
    print_field("m-zs-input-bytes-[", input_bytes(), "]\n");
    print_field("m-zs-keeps-input-[", keeps_input(), "]\n");
    print_field("m-zs-cycles-[", last_cycles, "]\n");
    print_field("m-zs-stack-[", port_stack_used(), "]\n");
}

static void print_mode(void)
{
    print(energy_mode ? "m-timestamp-mode-energy\n" : "m-timestamp-mode-performance\n");
}

static void set_mode(char *rest)
{
    const char *word = next_word(&rest);
    const bool energy = word != NULL && equal(word, "energy");
    if (!energy && (word == NULL || !equal(word, "performance"))) {
        print("e-[zs-mode takes energy or performance]\n");
        return;
    }
    energy_mode = energy;
    print_mode();
}

static void answer(char *text)
{
    char *rest = text;
    const char *word = next_word(&rest);
    if (word == NULL) {
        print("e-[Unknown command: ]\n");
    } else if (equal(word, "name")) {
        print("m-name-dut-[zeroskip]\n");
    } else if (equal(word, "profile")) {
        print("m-profile-[zeroskip]\nm-model-[");
        print(port_model_name);
        print("]\n");
    } else if (equal(word, "timestamp")) {
        timestamp();
    } else if (equal(word, "db")) {
        db(rest);
    } else if (equal(word, "infer")) {
        infer(rest);
    } else if (equal(word, "results")) {
        print_results();
    } else if (equal(word, "help")) {
        print("name% profile% timestamp% db load N% db HEX% db print% infer N [W=10]% results%\n"
              "zs-info% zs-mode energy|performance% zs-ops% zs-output%\n");
    } else if (equal(word, "zs-info")) {
        print_info();
    } else if (equal(word, "zs-mode")) {
        set_mode(rest);
    } else if (equal(word, "zs-ops")) {
        print_ops();
    } else if (equal(word, "zs-output")) {
        print_outputs();
    } else {
        print("e-[Unknown command: ");
        print(word);
        print("]\n");
    }
}

/* A command into `command`, without its end; characters that no command has are left out.
   False if it was too long. */
static bool read_command(void)
{
    unsigned length = 0;
    for (;;) {
        const int c = port_console_get();
        if (c == '%') {
            const bool fits = length < COMMAND_SIZE;
            command[fits ? length : 0] = '\0';
            return fits;
        }
        if (c >= ' ' && c < 0x7f && length < COMMAND_SIZE) {
            command[length++] = (char)c;
        }
    }
}

int main(void)
{
    port_console_init();
    port_trigger(1);
    port_cycles_start();
    last_read = port_cycles();
    print_mode();
    const enum zs_status status =
        zs_model_init(&model, port_model_start, (size_t)(port_model_end - port_model_start));
    if (status != ZS_OK) {
        print("e-[model refused: ");
        print(zs_strerror(status));
        print("]\n");
        return 1;
    }
    print("m-init-done\nm-ready\n");
    for (;;) {
        if (read_command()) {
            answer(command);
        } else {
            print("e-[Command too long]\n");
        }
        print("m-ready\n");
    }
}
