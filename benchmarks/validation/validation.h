/* validation.h - counting parts of a program. SPDX-License-Identifier: Apache-2.0 */
#ifndef VALIDATION_H
#define VALIDATION_H

#include <stddef.h>

/* Of the program. */
void validation_main(void);

/* What runs between the two is counted; each pair is a region of its own, from 1 on. */
void validation_begin(void);
void validation_end(void);

/* Bytes for the script that started the program; once. */
void validation_report(const void *from, size_t size);

#endif
