/*
 * zs.h - sparse inference for microcontrollers, public API.
 *
 * The runtime allocates nothing, keeps no global state and calls nothing but
 * memcpy and memset. The model stays where it is (flash); the caller owns the
 * one arena that the intermediate results live in.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_H
#define ZS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* Version of the container, see runtime_c/FORMAT.md. Readers refuse another major. */
#define ZS_FORMAT_MAJOR 1
#define ZS_FORMAT_MINOR 1

/* Largest rank of a tensor. */
#define ZS_MAX_RANK 4

/* Every function that can fail returns one of these; 0 is success. */
enum zs_status {
    ZS_OK = 0,
    ZS_ERR_ARG = -1,     /* the caller broke the contract of the function */
    ZS_ERR_FORMAT = -2,  /* not a .zsk container, or a malformed one */
    ZS_ERR_VERSION = -3, /* a container of a major version not known here */
    ZS_ERR_UNSUP = -4,   /* well-formed, but this build lacks an operator or codec */
    ZS_ERR_ARENA = -5,   /* the arena is smaller than zs_arena_size() */
};

/* Element types, as stored in containers. */
enum zs_dtype {
    ZS_INT8 = 0,
    ZS_UINT8 = 1,
    ZS_FLOAT32 = 2,
};

/* A loaded model: views into the caller's container, nothing owned. */
struct zs_model {
    const uint8_t *blob;
    const uint8_t *tensors; /* tensor table */
    const uint8_t *io;      /* inputs, then outputs */
    const uint8_t *ops;     /* op records */
    const uint8_t *data;    /* constants and weight streams */
    uint32_t blob_size;
    uint32_t ops_size;
    uint32_t data_size;
    uint32_t arena_size;
    uint16_t tensor_count;
    uint16_t op_count;
    uint8_t input_count;
    uint8_t output_count;
};

/* What an input or output looks like. */
struct zs_tensor_info {
    enum zs_dtype dtype;
    unsigned rank;      /* 1..ZS_MAX_RANK, without the batch */
    uint16_t dims[4];   /* the first `rank` count */
    size_t size;        /* bytes */
    float scale;        /* real = scale * (value - zero_point); 1 for float32 */
    int32_t zero_point; /* 0 for float32 */
};

/*
 * Called around each op of zs_run(). Either function may be NULL.
 * `macs_executed` counts the multiply-accumulates done after zero weights and
 * zero activations were skipped; 0 for ops without weights.
 */
struct zs_hook {
    void (*before)(void *user, unsigned op_index);
    void (*after)(void *user, unsigned op_index, uint32_t macs_executed);
    void *user;
};

/*
 * Check a container from end to end and make `model` a view of it.
 *
 * `blob` must stay readable and unchanged for as long as the model is used.
 * After ZS_OK no later call reads outside [blob, blob + size) or writes outside
 * the arena, whatever the bytes are: this is the only function that has to
 * distrust them. `model` is written only on success.
 */
enum zs_status zs_model_init(struct zs_model *model, const void *blob, size_t size);

/* Bytes of arena that zs_run() needs: activations and scratch. */
size_t zs_arena_size(const struct zs_model *model);

unsigned zs_input_count(const struct zs_model *model);
unsigned zs_output_count(const struct zs_model *model);
unsigned zs_op_count(const struct zs_model *model);

/* Describe input or output `index`. Returns ZS_ERR_ARG past the last one. */
enum zs_status zs_input_info(const struct zs_model *model, unsigned index,
                             struct zs_tensor_info *info);
enum zs_status zs_output_info(const struct zs_model *model, unsigned index,
                              struct zs_tensor_info *info);

/*
 * Where input `index` is to be written before each zs_run(), and where output
 * `index` is found after it until the next one: places in the arena. NULL past
 * the last one. Running may overwrite the inputs.
 */
void *zs_input(const struct zs_model *model, void *arena, unsigned index);
const void *zs_output(const struct zs_model *model, const void *arena, unsigned index);

/*
 * Run one inference. `arena` must be aligned to 4 bytes and hold at least
 * zs_arena_size() bytes; several threads may share a model, not an arena.
 * `hook` may be NULL.
 */
enum zs_status zs_run(const struct zs_model *model, void *arena, size_t arena_size,
                      const struct zs_hook *hook);

/* Text of a status, never NULL; "" in builds with ZS_STRERROR=0. */
const char *zs_strerror(enum zs_status status);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
