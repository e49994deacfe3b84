/* SPDX-License-Identifier: 0BSD
 *
 * Reset for an Armv6-M, Armv7-M or Armv8-M core: fills .data and .bss, then waits. An application puts its own start-up
 * in place of this file. */
#include <stdint.h>

extern uint32_t __data_start[], __data_end[], __data_load[], __bss_start[], __bss_end[], __stack_top[];

void Reset(void);

void Reset(void)
{
#if defined(__ARM_FP)
    /* CPACR: full access to coprocessors 10 and 11, the FPU. */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm volatile("dsb\n\tisb");
#endif
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

typedef struct {
    uint32_t *stack;
    void (*reset)(void);
} vectors_t;

const vectors_t ncpc_vectors __attribute__((section(".vectors"), used)) = {__stack_top, Reset};
