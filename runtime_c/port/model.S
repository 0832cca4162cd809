/* model.S - the container, in flash. SPDX-License-Identifier: Apache-2.0 */
    .section .model, "a", %progbits
    .balign 16
    .global port_model_start
    .type port_model_start, %object
port_model_start:
    .incbin "model.zsk"
    .global port_model_end
    .type port_model_end, %object
port_model_end:
    .size port_model_start, port_model_end - port_model_start
