/*
 * fuzz_model.c - loading and running hostile containers.
 *
 * The property is that of runtime_c/include/zs.h: after zs_model_init() has
 * accepted a container, whatever its bytes, nothing reads outside it or
 * writes outside the arena; before that, nothing reads outside it either.
 * Container and arena live in buffers of exactly their size, so that
 * AddressSanitizer sees the first byte too many.
 *
 * As a libFuzzer target: `make fuzz`. With -DZS_FUZZ_MAIN a driver without a
 * fuzzer (tests/c/test_sanitizers.py): every truncation of each file, then
 * mutations:
 *     fuzz_model SEED MUTATIONS FILE...
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zs.h"

/* Containers that claim more are loaded but not run: a run touches all of it. */
#define LARGEST_ARENA (1u << 22)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long accepted;
static volatile unsigned checksum;

static void store_u32(uint8_t *p, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t crc32(const uint8_t *p, size_t size)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
        }
    }
    return ~crc;
}

static void run(const struct zs_model *model)
{
    const size_t arena_size = zs_arena_size(model);
    if (arena_size > LARGEST_ARENA) {
        return;
    }
    uint8_t *arena = malloc(arena_size);
    if (arena == NULL) {
        abort();
    }
    memset(arena, 0x5a, arena_size);
    for (unsigned i = 0; i < zs_input_count(model); i++) {
        struct zs_tensor_info info;
        if (zs_input_info(model, i, &info) != ZS_OK) {
            abort();
        }
        memset(zs_input(model, arena, i), (int)(i + 17), info.size);
    }
    if (zs_run(model, arena, arena_size - 1, NULL) != ZS_ERR_ARENA) {
        abort();
    }
    if (zs_run(model, arena, arena_size, NULL) != ZS_OK) {
        abort(); /* an accepted container always runs */
    }
    for (unsigned i = 0; i < zs_output_count(model); i++) {
        struct zs_tensor_info info;
        if (zs_output_info(model, i, &info) != ZS_OK) {
            abort();
        }
        const uint8_t *out = zs_output(model, arena, i);
        for (size_t j = 0; j < info.size; j++) {
            checksum = checksum + out[j];
        }
    }
    free(arena);
}

static void load(const uint8_t *data, size_t size)
{
    struct zs_model model;
    if (zs_model_init(&model, data, size) == ZS_OK) {
        accepted++;
        run(&model);
    }
}

/* As it is, and with length and checksum made right, to get past them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size == 0 ? 1 : size);
    if (exact == NULL) {
        abort();
    }
    memcpy(exact, data, size);
    load(exact, size);
    if (size >= 16 && size % 4 == 0) {
        store_u32(exact + 8, (uint32_t)size);
        store_u32(exact + size - 4, crc32(exact, size - 4));
        load(exact, size);
    }
    free(exact);
    return 0;
}

#ifdef ZS_FUZZ_MAIN

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

/* Bit flips, interesting bytes, copies of one place to another, in one to four places. */
static void mutate(uint8_t *data, size_t size)
{
    static const uint8_t interesting[] = { 0, 1, 2, 3, 4, 15, 16, 127, 128, 254, 255 };
    const unsigned count = 1 + draw(4);
    for (unsigned i = 0; i < count; i++) {
        /* half of the time among the records, which come first */
        const size_t span = draw(2) != 0 && size > 160 ? 160 : size;
        const size_t at = draw((uint32_t)span);
        switch (draw(4)) {
        case 0: data[at] ^= (uint8_t)(1u << draw(8)); break;
        case 1: data[at] = (uint8_t)draw(256); break;
        case 2: data[at] = interesting[draw(sizeof interesting)]; break;
        default: data[at] = data[draw((uint32_t)size)]; break;
        }
    }
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*size);
    if (data != NULL && fread(data, 1, *size, file) != *size) {
        abort();
    }
    fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: fuzz_model SEED MUTATIONS FILE...\n");
        return 2;
    }
    state = 0x9e3779b97f4a7c15u ^ strtoull(argv[1], NULL, 10);
    const unsigned long mutations = strtoul(argv[2], NULL, 10) / (unsigned long)(argc - 3);
    unsigned long tried = 0;
    for (int i = 3; i < argc; i++) {
        size_t size;
        uint8_t *data = read_file(argv[i], &size);
        if (data == NULL) {
            fprintf(stderr, "cannot read %s\n", argv[i]);
            return 2;
        }
        accepted = 0;
        load(data, size);
        if (accepted != 1) {
            fprintf(stderr, "%s: the unharmed container is refused\n", argv[i]);
            return 1;
        }
        for (size_t length = 0; length < size; length++, tried++) {
            accepted = 0;
            LLVMFuzzerTestOneInput(data, length);
        }
        uint8_t *copy = malloc(size);
        for (unsigned long m = 0; copy != NULL && m < mutations; m++, tried++) {
            memcpy(copy, data, size);
            mutate(copy, size);
            LLVMFuzzerTestOneInput(copy, size);
        }
        printf("%s: %zu bytes, %lu accepted\n", argv[i], size, accepted);
        free(copy);
        free(data);
    }
    printf("%lu containers tried\n", tried);
    return 0;
}

#endif
