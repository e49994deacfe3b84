/* SPDX-License-Identifier: 0BSD
 *
 * Reset for a 32-bit RISC-V core: sets the stack, fills .data and .bss, then waits. An application puts its own start-up
 * in place of this file. */
#include <stdint.h>

extern uint32_t __data_start[], __data_end[], __data_load[], __bss_start[], __bss_end[];

void Reset(void);
void ncpc_start(void);

void ncpc_start(void)
{
    const volatile uint32_t *from = __data_load;
    for (volatile uint32_t *to = __data_start; to != __data_end; to++) {
        *to = *from++;
    }
    for (volatile uint32_t *to = __bss_start; to != __bss_end; to++) {
        *to = 0u;
    }
    for (;;) {
        __asm volatile("wfi");
    }
}

__attribute__((naked, section(".vectors"), used)) void Reset(void)
{
    __asm volatile("la sp, __stack_top\n\tj ncpc_start");
}
