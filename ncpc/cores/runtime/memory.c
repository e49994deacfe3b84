/* SPDX-License-Identifier: 0BSD
 *
 * The three functions a compiler may call for structure copies in a program without a C library. The volatile pointers
 * keep it from turning the loops back into calls of themselves. */
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

void *memcpy(void *to, const void *from, size_t n)
{
    volatile unsigned char *t = to;
    const unsigned char *f = from;
    while (n-- > 0u) {
        *t++ = *f++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    volatile unsigned char *t = to;
    const unsigned char *f = from;
    if ((size_t)t - (size_t)f >= n) {
        return memcpy(to, from, n);
    }
    while (n-- > 0u) {
        t[n] = f[n];
    }
    return to;
}

void *memset(void *to, int value, size_t n)
{
    volatile unsigned char *t = to;
    while (n-- > 0u) {
        *t++ = (unsigned char)value;
    }
    return to;
}
