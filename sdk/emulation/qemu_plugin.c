/*
 * qemu_plugin.c - trace.c as a TCG plugin of QEMU (plugin API version 1, QEMU 6.0 to 8.x).
 *
 * Arguments: out=FILE and the addresses run=, op=, op_end=, between=, stop= in decimal; memory=
 * the twelve numbers of struct memory_shape, with colons between, if the flash is modelled.
 * The few declarations of the API that are used are written out here, because
 * distributions package QEMU without qemu-plugin.h; see
 * https://qemu.readthedocs.io/en/v7.2.0/devel/tcg-plugins.html.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "trace.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*callback)(qemu_plugin_id_t id,
                                                                   struct qemu_plugin_tb *tb));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
                                                 void (*callback)(unsigned vcpu, void *user),
                                                 int flags, void *user);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
                                           void (*callback)(qemu_plugin_id_t id, void *user),
                                           void *user);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb,
                                                        size_t index);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
                                             void (*callback)(unsigned vcpu,
                                                              qemu_plugin_meminfo_t info,
                                                              uint64_t address, void *user),
                                             int flags, int rw, void *user);
extern bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);

#define MEM_RW 3 /* enum qemu_plugin_mem_rw; QEMU 7.2 calls nobody for loads alone */
#define MEMORY_NUMBERS 12

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

/* One process emulates one machine with one core. */
static struct trace *trace;
static const char *out_path;
static bool models_memory;

static void on_execute(unsigned vcpu, void *user)
{
    (void)vcpu;
    trace_enter(trace, user);
}

static void on_access(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *user)
{
    (void)vcpu;
    (void)user;
    if (!qemu_plugin_mem_is_store(info)) {
        trace_load(trace, (uint32_t)address);
    }
}

/* Not qemu_plugin_insn_size(): that is 2 where an instruction of 4 bytes crosses a page. */
static uint32_t thumb_size(const struct qemu_plugin_insn *insn)
{
    const uint8_t *bytes = qemu_plugin_insn_data(insn);
    return bytes[1] >> 3 >= 0x1d ? 4 : 2;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint32_t size = 0;
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size += thumb_size(insn);
        if (models_memory) {
            qemu_plugin_register_vcpu_mem_cb(insn, on_access, 0, MEM_RW, NULL);
        }
    }
    struct trace_block *block = trace_block(trace, (uint32_t)qemu_plugin_tb_vaddr(tb), size);
    if (block != NULL) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_execute, 0, block);
    }
}

static void on_exit(qemu_plugin_id_t id, void *user)
{
    (void)id;
    (void)user;
    if (!trace_write(trace, out_path)) {
        fprintf(stderr, "zeroskip plugin: cannot write %s\n", out_path);
    }
}

static const char *argument(int argc, char **argv, const char *name)
{
    const size_t length = strlen(name);
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=') {
            return argv[i] + length + 1;
        }
    }
    return NULL;
}

/* False unless `text` is that many numbers. */
static bool parse_numbers(const char *text, uint32_t *numbers, unsigned count)
{
    char *at = (char *)text;
    for (unsigned i = 0; i < count; i++) {
        const char *from = at;
        numbers[i] = (uint32_t)strtoul(from, &at, 10);
        if (at == from || *at != (i + 1 < count ? ':' : '\0')) {
            return false;
        }
        at++;
    }
    return true;
}

static int refuse(const char *name)
{
    fprintf(stderr, "zeroskip plugin: argument %s= is missing or no number\n", name);
    return -1;
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    static const char *const names[] = { "run", "op", "op_end", "between", "stop" };
    uint32_t marks[5];
    uint32_t m[MEMORY_NUMBERS];
    (void)info;
    for (unsigned i = 0; i < 5; i++) {
        const char *text = argument(argc, argv, names[i]);
        if (text == NULL || !parse_numbers(text, &marks[i], 1)) {
            return refuse(names[i]);
        }
    }
    const char *memory = argument(argc, argv, "memory");
    models_memory = memory != NULL;
    if (models_memory && !parse_numbers(memory, m, MEMORY_NUMBERS)) {
        return refuse("memory");
    }
    const struct memory_shape shape = models_memory
                                          ? (struct memory_shape){ m[0],
                                                                   m[1],
                                                                   m[2],
                                                                   m[3],
                                                                   m[4],
                                                                   m[5],
                                                                   { m[6], m[7], m[8] },
                                                                   { m[9], m[10], m[11] } }
                                          : (struct memory_shape){ 0 };
    const char *out = argument(argc, argv, "out");
    if (out == NULL) {
        return refuse("out");
    }
    out_path = strdup(out);
    trace = trace_new(&(struct trace_marks){ .run = marks[0],
                                             .op = marks[1],
                                             .op_end = marks[2],
                                             .between = marks[3],
                                             .stop = marks[4] },
                      models_memory ? &shape : NULL);
    if (out_path == NULL || trace == NULL) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
