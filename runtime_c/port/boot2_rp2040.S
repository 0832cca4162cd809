/*
 * boot2_rp2040.S - second boot stage of the RP2040: the first 256 bytes of flash.
 *
 * The mask ROM copies it to SRAM and runs it there if the last word is the CRC-32 of the
 * 252 bytes before it (RP2040 Datasheet, section 2.8.1.3.1), which sdk/firmware.py fills
 * in. It sets the flash interface (section 4.10) to the plain 03h serial read, which every
 * QSPI flash understands, then starts the image behind it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
    .syntax unified
    .cpu cortex-m0plus
    .thumb

    .equ SSI_BASE, 0x18000000
    .equ SSI_CTRLR0, 0x00
    .equ SSI_CTRLR1, 0x04
    .equ SSI_SSIENR, 0x08
    .equ SSI_BAUDR, 0x14
    .equ IMAGE, 0x10000100
    .equ VTOR, 0xe000ed08

    .section .boot2, "ax", %progbits
    .global port_boot2
    .type port_boot2, %function
    .thumb_func
port_boot2:
    ldr r3, ssi_base
    movs r0, #0
    str r0, [r3, #SSI_SSIENR]   /* off while it is set up */
    movs r1, #4
    str r1, [r3, #SSI_BAUDR]    /* serial clock = system clock / 4 */
    ldr r1, ctrlr0
    str r1, [r3, #SSI_CTRLR0]
    str r0, [r3, #SSI_CTRLR1]   /* one data frame per read */
    ldr r1, spi_ctrlr0
    ldr r2, spi_ctrlr0_place
    str r1, [r2]
    movs r0, #1
    str r0, [r3, #SSI_SSIENR]
    ldr r0, image
    ldr r1, vtor
    str r0, [r1]
    ldr r1, [r0]
    msr msp, r1
    ldr r0, [r0, #4]
    bx r0

    .balign 4
ssi_base:         .word SSI_BASE
ctrlr0:           .word 31 << 16 | 3 << 8        /* 32-bit frames, EEPROM read mode */
spi_ctrlr0:       .word 0x03 << 24 | 2 << 8 | 6 << 2 /* command 03h of 8 bits, 24-bit address */
spi_ctrlr0_place: .word SSI_BASE + 0xf4
image:            .word IMAGE
vtor:             .word VTOR

    .org 252
    .word 0 /* the CRC */
