/*
 * zs_config.h - compile-time options. Every option is 0 or 1, is always
 * defined, and is tested with #if, so that a misspelt one is an error under
 * -Wundef. Override with -DZS_...=, or -DZS_CONFIG='"my_config.h"'.
 *
 * A container that needs what was left out is refused with ZS_ERR_UNSUP.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef ZS_CONFIG_H
#define ZS_CONFIG_H

#ifdef ZS_CONFIG
#include ZS_CONFIG
#endif

/* Keep the texts of zs_strerror(). 0 saves about 200 bytes of flash. */
#ifndef ZS_STRERROR
#define ZS_STRERROR 1
#endif

/* Element types: int8 kernels, float32 kernels. */
#ifndef ZS_INT8_KERNELS
#define ZS_INT8_KERNELS 1
#endif
#ifndef ZS_FLOAT32_KERNELS
#define ZS_FLOAT32_KERNELS 1
#endif

/*
 * Kernels for the DSP extension (Cortex-M4, M7, M33) with unaligned loads.
 * They give the bits of the portable ones.
 */
#ifndef ZS_DSP
#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_UNALIGNED)
#define ZS_DSP 1
#else
#define ZS_DSP 0
#endif
#endif

/* Kernels for x86-64. They give the bits of the portable ones. */
#ifndef ZS_SSE2
#if defined(__SSE2__)
#define ZS_SSE2 1
#else
#define ZS_SSE2 0
#endif
#endif

/* Operators. */
#ifndef ZS_OP_CONV
#define ZS_OP_CONV 1
#endif
#ifndef ZS_OP_FULLY_CONNECTED
#define ZS_OP_FULLY_CONNECTED 1
#endif
#ifndef ZS_OP_BINARY
#define ZS_OP_BINARY 1
#endif
#ifndef ZS_OP_POOL
#define ZS_OP_POOL 1
#endif
#ifndef ZS_OP_MEAN
#define ZS_OP_MEAN 1
#endif
#ifndef ZS_OP_PAD
#define ZS_OP_PAD 1
#endif
#ifndef ZS_OP_CONCAT
#define ZS_OP_CONCAT 1
#endif
#ifndef ZS_OP_SOFTMAX
#define ZS_OP_SOFTMAX 1
#endif
#ifndef ZS_OP_TABLE
#define ZS_OP_TABLE 1
#endif
#ifndef ZS_OP_UNARY
#define ZS_OP_UNARY 1
#endif
#ifndef ZS_OP_CONVERT
#define ZS_OP_CONVERT 1
#endif
#ifndef ZS_OP_TRANSPOSE
#define ZS_OP_TRANSPOSE 1
#endif
#ifndef ZS_OP_SLICE
#define ZS_OP_SLICE 1
#endif

/* Position and value codecs; dense positions and raw values are always there. */
#ifndef ZS_CODEC_BITMASK
#define ZS_CODEC_BITMASK 1
#endif
#ifndef ZS_CODEC_GAP4
#define ZS_CODEC_GAP4 1
#endif
#ifndef ZS_CODEC_BLOCK
#define ZS_CODEC_BLOCK 1
#endif
#ifndef ZS_CODEC_GAP
#define ZS_CODEC_GAP 1
#endif
#ifndef ZS_CODEC_PACKED
#define ZS_CODEC_PACKED 1
#endif
#ifndef ZS_CODEC_HUFFMAN
#define ZS_CODEC_HUFFMAN 1
#endif

/* The smallest codec, of positions and of values. */
#ifndef ZS_CODEC_ANS
#define ZS_CODEC_ANS 1
#endif

#endif
