/*
 * ml_kem.c - pqm4's ML-KEM: key generation, encapsulation and decapsulation, ten times each.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "api.h"
#include "randombytes.h"
#include "validation.h"

#include <stdint.h>
#include <string.h>

enum {
    RUNS = 10
};

static uint8_t pk[CRYPTO_PUBLICKEYBYTES];
static uint8_t sk[CRYPTO_SECRETKEYBYTES];
static uint8_t ct[CRYPTO_CIPHERTEXTBYTES];
static uint8_t key_a[CRYPTO_BYTES];
static uint8_t key_b[CRYPTO_BYTES];

/* Not random: the board's generator is hardware, and costs little. */

int randombytes(uint8_t *to, size_t size)
{
    static uint32_t state = 0x2545f491u;
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        to[i] = (uint8_t)state;
    }
    return 0;
}

void validation_main(void)
{
    uint32_t equal = 0;
    for (int i = 0; i < RUNS; i++) {
        validation_begin();
        (void)crypto_kem_keypair(pk, sk);
        validation_end();
        validation_begin();
        (void)crypto_kem_enc(ct, key_a, pk);
        validation_end();
        validation_begin();
        (void)crypto_kem_dec(key_b, ct, sk);
        validation_end();
        equal += memcmp(key_a, key_b, sizeof key_a) == 0;
    }
    validation_report(&equal, sizeof equal);
}
