/* zs_model.c - loading, see FORMAT.md section 1. SPDX-License-Identifier: Apache-2.0 */
#include "zs_internal.h"

#define ZS_MAGIC 0x504b535au /* "ZSKP" */
#define ZS_HEADER_SIZE 36u
#define ZS_TENSOR_SIZE 16u
#define ZS_IO_SIZE 8u

/* CRC-32 four bits at a time: 64 bytes of table instead of 1 KB. */
static uint32_t crc32(const uint8_t *p, size_t size)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static uint32_t element_size(enum zs_dtype dtype)
{
    return dtype == ZS_FLOAT32 ? 4 : 1;
}

void zs_tensor_get(const struct zs_model *model, unsigned index, struct zs_tensor *tensor)
{
    const uint8_t *p = model->tensors + ZS_TENSOR_SIZE * index;
    tensor->location = zs_load_u32(p);
    tensor->dtype = (enum zs_dtype)p[4];
    tensor->rank = p[5] & 127u;
    tensor->constant = (p[5] & 128) != 0;
    tensor->zero_point = (int16_t)zs_load_u16(p + 6);
    tensor->count = 1;
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        tensor->dims[i] = zs_load_u16(p + 8 + 2 * i);
        tensor->count *= tensor->dims[i];
    }
    tensor->size = tensor->count * element_size(tensor->dtype);
}

/* Whether tensor `index` is well-formed and lies where it may. */
static bool tensor_is_valid(const struct zs_model *model, unsigned index)
{
    const uint8_t *p = model->tensors + ZS_TENSOR_SIZE * index;
    const uint32_t location = zs_load_u32(p);
    const int32_t zero_point = (int16_t)zs_load_u16(p + 6);
    const unsigned rank = p[5] & 127u;
    const bool constant = (p[5] & 128) != 0;
    const uint32_t space = constant ? model->data_size : model->arena_size;
    if (p[4] > ZS_FLOAT32 || rank < 1 || rank > ZS_MAX_RANK || location > space
        || (!constant && location % 4 != 0)) {
        return false;
    }
    const int32_t low = p[4] == ZS_INT8 ? -128 : 0;
    const int32_t high = p[4] == ZS_INT8 ? 127 : p[4] == ZS_UINT8 ? 255 : 0;
    if (zero_point < low || zero_point > high) {
        return false;
    }
    uint32_t room = (space - location) / element_size((enum zs_dtype)p[4]);
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        const uint32_t dim = zs_load_u16(p + 8 + 2 * i);
        if (dim < 1 || (i >= rank && dim != 1)) {
            return false;
        }
        room /= dim;
    }
    return room > 0;
}

static bool io_is_valid(const struct zs_model *model, unsigned index)
{
    const uint8_t *p = model->io + ZS_IO_SIZE * index;
    const uint16_t tensor = zs_load_u16(p);
    const uint32_t scale = zs_load_u32(p + 4); /* above 0 and finite */
    return tensor < model->tensor_count && zs_load_u16(p + 2) == 0
           && (model->tensors[ZS_TENSOR_SIZE * tensor + 5] & 128) == 0 && scale > 0
           && scale < 0x7f800000u;
}

/* Names are not used here, but must be where the header says. */
static bool names_are_valid(const uint8_t *p, size_t size, unsigned count)
{
    struct zs_reader r = { .next = p, .left = size };
    for (unsigned i = 0; i < count; i++) {
        (void)zs_reader_sub(&r, zs_reader_u8(&r));
    }
    return zs_reader_ok(&r) && r.left < 4;
}

static enum zs_status read_header(struct zs_model *m, const uint8_t *blob, size_t size)
{
    if (size < 6 || zs_load_u32(blob) != ZS_MAGIC) {
        return ZS_ERR_FORMAT;
    }
    if (blob[4] != ZS_FORMAT_MAJOR) {
        return ZS_ERR_VERSION;
    }
    if (size < ZS_HEADER_SIZE + 4 || size % 4 != 0 || zs_load_u32(blob + 8) != size
        || zs_load_u32(blob + size - 4) != crc32(blob, size - 4)) {
        return ZS_ERR_FORMAT;
    }
    m->blob = blob;
    m->blob_size = (uint32_t)size;
    m->arena_size = zs_load_u32(blob + 12);
    m->tensor_count = zs_load_u16(blob + 16);
    m->op_count = zs_load_u16(blob + 18);
    m->input_count = blob[20];
    m->output_count = blob[21];
    const uint32_t ops = zs_load_u32(blob + 24);
    const uint32_t names = zs_load_u32(blob + 28);
    const uint32_t data = zs_load_u32(blob + 32);
    const uint32_t io = ZS_HEADER_SIZE + ZS_TENSOR_SIZE * m->tensor_count;
    const uint32_t io_end = io + ZS_IO_SIZE * ((uint32_t)m->input_count + m->output_count);
    const uint32_t ops_end = names != 0 ? names : data;
    if (zs_load_u16(blob + 6) != 0 || zs_load_u16(blob + 22) != 0 || m->arena_size % 4 != 0
        || m->arena_size > ZS_MAX_ARENA || m->input_count == 0 || m->output_count == 0
        || (ops | names | data) % 4 != 0 || ops < io_end || ops - io_end > 3 || ops > ops_end
        || ops_end > data || data > size - 4) {
        return ZS_ERR_FORMAT;
    }
    m->tensors = blob + ZS_HEADER_SIZE;
    m->io = blob + io;
    m->ops = blob + ops;
    m->ops_size = ops_end - ops;
    m->data = blob + data;
    m->data_size = (uint32_t)size - 4 - data;
    if (names != 0 && !names_are_valid(blob + names, data - names, m->op_count)) {
        return ZS_ERR_FORMAT;
    }
    return ZS_OK;
}

ZS_COLD enum zs_status zs_model_init(struct zs_model *model, const void *blob, size_t size)
{
    if (model == NULL || blob == NULL || size > UINT32_MAX / 2) {
        return ZS_ERR_ARG;
    }
    struct zs_model m;
    enum zs_status status = read_header(&m, blob, size);
    if (status != ZS_OK) {
        return status;
    }
    for (unsigned i = 0; i < m.tensor_count; i++) {
        if (!tensor_is_valid(&m, i)) {
            return ZS_ERR_FORMAT;
        }
    }
    for (unsigned i = 0; i < (unsigned)m.input_count + m.output_count; i++) {
        if (!io_is_valid(&m, i)) {
            return ZS_ERR_FORMAT;
        }
    }
    struct zs_ctx ctx = { .model = &m };
    status = zs_walk(&ctx, NULL);
    if (status == ZS_OK) {
        *model = m;
    }
    return status;
}

size_t zs_arena_size(const struct zs_model *model)
{
    return model->arena_size;
}

unsigned zs_input_count(const struct zs_model *model)
{
    return model->input_count;
}

unsigned zs_output_count(const struct zs_model *model)
{
    return model->output_count;
}

unsigned zs_op_count(const struct zs_model *model)
{
    return model->op_count;
}

static void io_info(const struct zs_model *model, unsigned index, struct zs_tensor_info *info)
{
    const uint8_t *p = model->io + ZS_IO_SIZE * index;
    struct zs_tensor t;
    zs_tensor_get(model, zs_load_u16(p), &t);
    info->dtype = t.dtype;
    info->rank = t.rank;
    for (unsigned i = 0; i < ZS_MAX_RANK; i++) {
        info->dims[i] = (uint16_t)t.dims[i];
    }
    info->size = t.size;
    info->scale = zs_load_f32(p + 4);
    info->zero_point = t.zero_point;
}

enum zs_status zs_input_info(const struct zs_model *model, unsigned index,
                             struct zs_tensor_info *info)
{
    if (index >= model->input_count) {
        return ZS_ERR_ARG;
    }
    io_info(model, index, info);
    return ZS_OK;
}

enum zs_status zs_output_info(const struct zs_model *model, unsigned index,
                              struct zs_tensor_info *info)
{
    if (index >= model->output_count) {
        return ZS_ERR_ARG;
    }
    io_info(model, (unsigned)model->input_count + index, info);
    return ZS_OK;
}

/* Offset in the arena of io record `index`. */
static uint32_t io_location(const struct zs_model *model, unsigned index)
{
    struct zs_tensor t;
    zs_tensor_get(model, zs_load_u16(model->io + ZS_IO_SIZE * index), &t);
    return t.location;
}

void *zs_input(const struct zs_model *model, void *arena, unsigned index)
{
    return index >= model->input_count ? NULL : (uint8_t *)arena + io_location(model, index);
}

const void *zs_output(const struct zs_model *model, const void *arena, unsigned index)
{
    return index >= model->output_count
               ? NULL
               : (const uint8_t *)arena + io_location(model, (unsigned)model->input_count + index);
}

const char *zs_strerror(enum zs_status status)
{
#if ZS_STRERROR
    /* No default: -Wswitch-enum then names the code that lacks a text. */
    switch (status) {
    case ZS_OK: return "ok";
    case ZS_ERR_ARG: return "invalid argument";
    case ZS_ERR_FORMAT: return "not a .zsk container, or a damaged one";
    case ZS_ERR_VERSION: return "container of a format version not known here";
    case ZS_ERR_UNSUP: return "operator or codec not in this build";
    case ZS_ERR_ARENA: return "arena too small";
    }
    return "unknown status";
#else
    (void)status;
    return "";
#endif
}
