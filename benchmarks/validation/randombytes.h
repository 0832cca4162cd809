/* randombytes.h - in pqm4 a link into another repository. SPDX-License-Identifier: Apache-2.0 */
#ifndef RANDOMBYTES_H
#define RANDOMBYTES_H

#include <stddef.h>
#include <stdint.h>

int randombytes(uint8_t *to, size_t size);

#endif
