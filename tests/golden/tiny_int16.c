/* SPDX-License-Identifier: 0BSD */
#include "tiny.h"

#include <limits.h>

/* Negative numbers are shifted right as floor(a / 2^k), as every compiler for a two's complement machine does. */
typedef char arithmetic_shift[(-5 >> 1) == -3 ? 1 : -1];

/* Labels for a profile of cycles per neuron; they cost nothing. */
#ifdef TINY_PROFILE
#define PROFILE_LABEL(name) __asm__ volatile(#name "_%=:" : :)
#else
#define PROFILE_LABEL(name) (void)0
#endif

enum {
    INPUTS = 2,
    NEURONS = 2,
    SENSORY_SYNAPSES = 2,
    SYNAPSES = 3,
    OUTPUTS = 1,
};

/* Two 16-bit numbers in a word, for one load instead of two. */
#define PAIR(low, high) (((uint32_t)(low) & 0xFFFFu) | (uint32_t)(high) << 16)

#define LO16(word) ((int32_t)(int16_t)(word))

#define HI16(word) ((int32_t)(word) >> 16)

/* Tells compilers for cores with 16-bit multiply-accumulate that a number fits 16 bits. */
#if defined(__ARM_FEATURE_DSP)
#define FITS_16(number) ((int16_t)(number))
#else
#define FITS_16(number) (number)
#endif

/* Short loops of varying length: unrolling them costs more than it saves. */
#if defined(__clang__)
#define NOT_UNROLLED _Pragma("clang loop unroll(disable)")
#else
#define NOT_UNROLLED
#endif

static int32_t clamp_i(int32_t a, int32_t lo, int32_t hi)
{
    return a < lo ? lo : (hi < a ? hi : a);
}

/* floor(a*b / 2^k + 1/2), k >= 1. */
static int32_t mulshr(int32_t a, int32_t b, int k)
{
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << (k - 1))) >> k);
}

/* How many zeros stand before the highest one of a, a >= 1. */
static int leading_zeros(uint32_t a)
{
#if defined(__GNUC__) && UINT_MAX == 0xFFFFFFFFu && (!defined(__arm__) || defined(__ARM_FEATURE_CLZ))
    return __builtin_clz(a);
#else
    int zeros = 0;
    for (int n = 16; n > 0; n >>= 1) {
        if (a >> (32 - n) == 0u) {
            zeros += n;
            a <<= n;
        }
    }
    return zeros;
#endif
}

/* Reciprocals: entry i is 2^31 over the middle of [2^15 + i*2^8, 2^15 + (i+1)*2^8). */
static const uint16_t recip_seed[128] = {
    65281, 64777, 64281, 63792, 63310, 62836, 62369, 61909, 61455, 61008, 60568, 60133, 59705, 59283, 58867, 58457,
    58053, 57654, 57260, 56872, 56489, 56111, 55738, 55370, 55007, 54649, 54295, 53946, 53601, 53261, 52925, 52593,
    52265, 51942, 51622, 51306, 50995, 50686, 50382, 50081, 49784, 49490, 49200, 48913, 48630, 48349, 48072, 47798,
    47528, 47260, 46995, 46733, 46474, 46218, 45965, 45714, 45467, 45222, 44979, 44739, 44502, 44267, 44035, 43805,
    43577, 43352, 43129, 42908, 42690, 42474, 42260, 42048, 41838, 41631, 41425, 41222, 41020, 40820, 40623, 40427,
    40233, 40041, 39851, 39662, 39476, 39291, 39108, 38926, 38746, 38568, 38392, 38217, 38044, 37872, 37702, 37533,
    37366, 37200, 37036, 36873, 36712, 36552, 36393, 36236, 36080, 35926, 35772, 35620, 35470, 35320, 35172, 35026,
    34880, 34735, 34592, 34450, 34309, 34169, 34031, 33893, 33757, 33622, 33487, 33354, 33222, 33091, 32961, 32832,
};

/* Close to 2^(46 + k) / a, 1 <= a < 2^31: a seed and one Newton step for the leading 16 bits of a, then a shift. */
static int32_t inverse(uint32_t a, int k)
{
    const int zeros = leading_zeros(a);
    const uint32_t m = (a << zeros) >> 16;
    const uint32_t seed = recip_seed[(m >> 8) & 127u];
    const int32_t residual = (int32_t)(0x80000000u - m * seed) >> 8;
    const int32_t r = (int32_t)seed + (((int32_t)seed * residual + 4194304) >> 23);
    return (int32_t)((uint32_t)r << (zeros - 1 + k));
}

/* Each entry: a value, and the step to the next one. */
static const uint32_t sigmoid_table[512] = {
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0), PAIR(0, 0),
    PAIR(0, 1), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0),
    PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0),
    PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0), PAIR(1, 0),
    PAIR(1, 1), PAIR(2, 0), PAIR(2, 0), PAIR(2, 0), PAIR(2, 0), PAIR(2, 0),
    PAIR(2, 0), PAIR(2, 0), PAIR(2, 1), PAIR(3, 0), PAIR(3, 0), PAIR(3, 0),
    PAIR(3, 0), PAIR(3, 1), PAIR(4, 0), PAIR(4, 0), PAIR(4, 0), PAIR(4, 1),
    PAIR(5, 0), PAIR(5, 0), PAIR(5, 1), PAIR(6, 0), PAIR(6, 0), PAIR(6, 1),
    PAIR(7, 0), PAIR(7, 1), PAIR(8, 0), PAIR(8, 1), PAIR(9, 0), PAIR(9, 1),
    PAIR(10, 0), PAIR(10, 1), PAIR(11, 1), PAIR(12, 0), PAIR(12, 1), PAIR(13, 1),
    PAIR(14, 1), PAIR(15, 1), PAIR(16, 1), PAIR(17, 1), PAIR(18, 1), PAIR(19, 2),
    PAIR(21, 1), PAIR(22, 1), PAIR(23, 2), PAIR(25, 1), PAIR(26, 2), PAIR(28, 2),
    PAIR(30, 2), PAIR(32, 2), PAIR(34, 2), PAIR(36, 2), PAIR(38, 3), PAIR(41, 2),
    PAIR(43, 3), PAIR(46, 3), PAIR(49, 3), PAIR(52, 4), PAIR(56, 3), PAIR(59, 4),
    PAIR(63, 4), PAIR(67, 5), PAIR(72, 4), PAIR(76, 5), PAIR(81, 5), PAIR(86, 6),
    PAIR(92, 6), PAIR(98, 6), PAIR(104, 7), PAIR(111, 7), PAIR(118, 7), PAIR(125, 8),
    PAIR(133, 9), PAIR(142, 9), PAIR(151, 10), PAIR(161, 10), PAIR(171, 11), PAIR(182, 12),
    PAIR(194, 12), PAIR(206, 13), PAIR(219, 14), PAIR(233, 15), PAIR(248, 16), PAIR(264, 17),
    PAIR(281, 18), PAIR(299, 19), PAIR(318, 20), PAIR(338, 22), PAIR(360, 23), PAIR(383, 24),
    PAIR(407, 26), PAIR(433, 28), PAIR(461, 29), PAIR(490, 31), PAIR(521, 33), PAIR(554, 35),
    PAIR(589, 38), PAIR(627, 39), PAIR(666, 42), PAIR(708, 45), PAIR(753, 47), PAIR(800, 51),
    PAIR(851, 53), PAIR(904, 57), PAIR(961, 60), PAIR(1021, 63), PAIR(1084, 68), PAIR(1152, 71),
    PAIR(1223, 76), PAIR(1299, 80), PAIR(1379, 85), PAIR(1464, 90), PAIR(1554, 95), PAIR(1649, 101),
    PAIR(1750, 106), PAIR(1856, 113), PAIR(1969, 119), PAIR(2088, 125), PAIR(2213, 133), PAIR(2346, 140),
    PAIR(2486, 147), PAIR(2633, 156), PAIR(2789, 163), PAIR(2952, 172), PAIR(3124, 182), PAIR(3306, 190),
    PAIR(3496, 200), PAIR(3696, 210), PAIR(3906, 220), PAIR(4126, 231), PAIR(4357, 242), PAIR(4599, 252),
    PAIR(4851, 264), PAIR(5115, 276), PAIR(5391, 287), PAIR(5678, 300), PAIR(5978, 311), PAIR(6289, 324),
    PAIR(6613, 336), PAIR(6949, 348), PAIR(7297, 361), PAIR(7658, 373), PAIR(8031, 385), PAIR(8416, 397),
    PAIR(8813, 408), PAIR(9221, 420), PAIR(9641, 431), PAIR(10072, 441), PAIR(10513, 451), PAIR(10964, 460),
    PAIR(11424, 470), PAIR(11894, 477), PAIR(12371, 485), PAIR(12856, 492), PAIR(13348, 497), PAIR(13845, 502),
    PAIR(14347, 505), PAIR(14852, 509), PAIR(15361, 511), PAIR(15872, 512), PAIR(16384, 512), PAIR(16896, 511),
    PAIR(17407, 509), PAIR(17916, 505), PAIR(18421, 502), PAIR(18923, 497), PAIR(19420, 492), PAIR(19912, 485),
    PAIR(20397, 477), PAIR(20874, 470), PAIR(21344, 460), PAIR(21804, 451), PAIR(22255, 441), PAIR(22696, 431),
    PAIR(23127, 420), PAIR(23547, 408), PAIR(23955, 397), PAIR(24352, 385), PAIR(24737, 373), PAIR(25110, 361),
    PAIR(25471, 348), PAIR(25819, 336), PAIR(26155, 324), PAIR(26479, 311), PAIR(26790, 300), PAIR(27090, 287),
    PAIR(27377, 276), PAIR(27653, 264), PAIR(27917, 252), PAIR(28169, 242), PAIR(28411, 231), PAIR(28642, 220),
    PAIR(28862, 210), PAIR(29072, 200), PAIR(29272, 190), PAIR(29462, 182), PAIR(29644, 172), PAIR(29816, 163),
    PAIR(29979, 156), PAIR(30135, 147), PAIR(30282, 140), PAIR(30422, 133), PAIR(30555, 125), PAIR(30680, 119),
    PAIR(30799, 113), PAIR(30912, 106), PAIR(31018, 101), PAIR(31119, 95), PAIR(31214, 90), PAIR(31304, 85),
    PAIR(31389, 80), PAIR(31469, 76), PAIR(31545, 71), PAIR(31616, 68), PAIR(31684, 63), PAIR(31747, 60),
    PAIR(31807, 57), PAIR(31864, 53), PAIR(31917, 51), PAIR(31968, 47), PAIR(32015, 45), PAIR(32060, 42),
    PAIR(32102, 39), PAIR(32141, 38), PAIR(32179, 35), PAIR(32214, 33), PAIR(32247, 31), PAIR(32278, 29),
    PAIR(32307, 28), PAIR(32335, 26), PAIR(32361, 24), PAIR(32385, 23), PAIR(32408, 22), PAIR(32430, 20),
    PAIR(32450, 19), PAIR(32469, 18), PAIR(32487, 17), PAIR(32504, 16), PAIR(32520, 15), PAIR(32535, 14),
    PAIR(32549, 13), PAIR(32562, 12), PAIR(32574, 12), PAIR(32586, 11), PAIR(32597, 10), PAIR(32607, 10),
    PAIR(32617, 9), PAIR(32626, 9), PAIR(32635, 8), PAIR(32643, 7), PAIR(32650, 7), PAIR(32657, 7),
    PAIR(32664, 6), PAIR(32670, 6), PAIR(32676, 6), PAIR(32682, 5), PAIR(32687, 5), PAIR(32692, 4),
    PAIR(32696, 5), PAIR(32701, 4), PAIR(32705, 4), PAIR(32709, 3), PAIR(32712, 4), PAIR(32716, 3),
    PAIR(32719, 3), PAIR(32722, 3), PAIR(32725, 2), PAIR(32727, 3), PAIR(32730, 2), PAIR(32732, 2),
    PAIR(32734, 2), PAIR(32736, 2), PAIR(32738, 2), PAIR(32740, 2), PAIR(32742, 1), PAIR(32743, 2),
    PAIR(32745, 1), PAIR(32746, 1), PAIR(32747, 2), PAIR(32749, 1), PAIR(32750, 1), PAIR(32751, 1),
    PAIR(32752, 1), PAIR(32753, 1), PAIR(32754, 1), PAIR(32755, 1), PAIR(32756, 0), PAIR(32756, 1),
    PAIR(32757, 1), PAIR(32758, 0), PAIR(32758, 1), PAIR(32759, 0), PAIR(32759, 1), PAIR(32760, 0),
    PAIR(32760, 1), PAIR(32761, 0), PAIR(32761, 1), PAIR(32762, 0), PAIR(32762, 0), PAIR(32762, 1),
    PAIR(32763, 0), PAIR(32763, 0), PAIR(32763, 1), PAIR(32764, 0), PAIR(32764, 0), PAIR(32764, 0),
    PAIR(32764, 1), PAIR(32765, 0), PAIR(32765, 0), PAIR(32765, 0), PAIR(32765, 0), PAIR(32765, 1),
    PAIR(32766, 0), PAIR(32766, 0), PAIR(32766, 0), PAIR(32766, 0), PAIR(32766, 0), PAIR(32766, 0),
    PAIR(32766, 0), PAIR(32766, 1), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0), PAIR(32767, 0),
    PAIR(32767, 0), PAIR(32767, 0),
};

/* sigmoid_table at t, interpolated over the low 7 bits of t; beyond the table's ends the end value. */
static int32_t sigmoid_table_at(int32_t t)
{
    const int32_t inside = t < 0 ? 0 : (t > 65535 ? 65535 : t);
    const uint32_t entry = sigmoid_table[inside >> 7];
    return FITS_16(LO16(entry) + ((HI16(entry) * (inside & 127) + 64) >> 7));
}

typedef struct {
    int16_t x_lo; /* Q0.15 */
    int16_t x_hi; /* Q0.15 */
} input_t;

static const input_t inputs[2] = {
    {-16384, 16384},
    {     0, 32767},
};

typedef struct {
    int32_t gleak; /* Q5.26 */
    int32_t leak; /* Q5.26 */
    int32_t cm_t; /* Q5.26 */
    int8_t sensory_synapses_here; /* how many end here */
    int8_t synapses_here; /* how many end here */
} neuron_t;

static const neuron_t neurons[2] = {
    {13421774,        0, 201326592, 1, 2}, /* steer */
    {20132660, -2013266, 161061274, 1, 1}, /* memory */
};

typedef struct {
    int32_t offset_s; /* Q6.25 */
    uint32_t sigma_s_w_s; /* sigma_s: Q5.10, w_s: Q1.14 */
    uint32_t we_s_pre_s; /* we_s: Q1.14, pre_s: position in inputs */
} sensory_synapse_t;

static const sensory_synapse_t sensory_synapses[2] = {
    {516746445,   PAIR(6144, 8192),   PAIR(8192, 0)}, /* offset -> steer */
    {469770240, PAIR(20480, 16384), PAIR(-16384, 1)}, /* speed -> memory */
};

typedef struct {
    int32_t offset; /* Q5.26 */
    uint32_t sigma_w; /* sigma: Q4.11, w: Q1.14 */
    uint32_t we_pre; /* we: Q1.14, pre: position in neurons */
} synapse_t;

static const synapse_t synapses[3] = {
    {1033492890,   PAIR(6144, 8192), PAIR(-8192, 0)}, /* steer -> steer */
    { 993227571,  PAIR(8192, 12288), PAIR(12288, 1)}, /* memory -> steer */
    { 939540480, PAIR(10240, 16384), PAIR(16384, 0)}, /* steer -> memory */
};

typedef struct {
    int32_t output_w; /* Q1.30 */
    int16_t output_b; /* Q16.15 */
} output_t;

static const output_t outputs[1] = {
    {805306368, 1638},
};

uint32_t tiny_step(tiny_t *s, const int16_t x[2], int16_t y[1])
{
    uint32_t status = 0;
    int16_t x_value[2];
    struct {
        int32_t den_s;
        int32_t num_s;
    } neuron_values[2];
    int16_t u[2];
    /* inputs limited to their declared range */
    int16_t outside = 0;
    for (int input = 0; input < INPUTS; input++) {
        x_value[input] = (int16_t)clamp_i(x[input], inputs[input].x_lo, inputs[input].x_hi);
        outside = (int16_t)(outside | (x_value[input] ^ x[input]));
    }
    if (outside != 0) {
        status |= TINY_INPUT_SATURATED;
    }
    /* G, N over sensory synapses */
    const sensory_synapse_t *sensory_synapse = sensory_synapses;
    for (int neuron = 0; neuron < NEURONS; neuron++) {
        int32_t den_s_sum = neurons[neuron].gleak;
        int32_t num_s_sum = neurons[neuron].leak;
        const sensory_synapse_t *const sensory_synapse_end = sensory_synapse + neurons[neuron].sensory_synapses_here;
        NOT_UNROLLED
        for (; sensory_synapse != sensory_synapse_end; sensory_synapse++) {
            const int32_t u_pre_s = x_value[HI16(sensory_synapse->we_s_pre_s)];
            const int32_t biased_s = LO16(sensory_synapse->sigma_s_w_s) * u_pre_s + sensory_synapse->offset_s;
            const int32_t s_s = sigmoid_table_at(biased_s >> 14);
            den_s_sum += (HI16(sensory_synapse->sigma_s_w_s) * s_s) >> 3;
            num_s_sum += (LO16(sensory_synapse->we_s_pre_s) * s_s) >> 3;
        }
        neuron_values[neuron].den_s = den_s_sum;
        neuron_values[neuron].num_s = num_s_sum;
    }
    for (int unfold = 0; unfold < 6; unfold++) {
        /* u = the state as 16 bits */
        for (int neuron = 0; neuron < NEURONS; neuron++) {
            u[neuron] = (int16_t)((s->state.v[neuron] + 16384) >> 15);
        }
        /* G, N over synapses */
        const synapse_t *synapse = synapses;
        for (int neuron = 0; neuron < NEURONS; neuron++) {
            PROFILE_LABEL(ncpc_neuron);
            int32_t den = neuron_values[neuron].den_s;
            int32_t num = neuron_values[neuron].num_s;
            const synapse_t *const synapse_end = synapse + neurons[neuron].synapses_here;
            NOT_UNROLLED
            for (; synapse != synapse_end; synapse++) {
                const int32_t biased = LO16(synapse->sigma_w) * u[HI16(synapse->we_pre)] + synapse->offset;
                const int32_t s_value = sigmoid_table_at(biased >> 15);
                den += (HI16(synapse->sigma_w) * s_value) >> 3;
                num += (LO16(synapse->we_pre) * s_value) >> 3;
            }
            /* v <- v + (N - G*v) / (cm_t + G) */
            const int32_t divisor_inverse = inverse((uint32_t)(neurons[neuron].cm_t + den), 12);
            const int32_t delta = mulshr(num - mulshr(den, s->state.v[neuron], 30), divisor_inverse, 28);
            s->state.v[neuron] = s->state.v[neuron] + delta;
            PROFILE_LABEL(ncpc_neuron_end);
        }
    }
    /* y = v[motor]*output_w + output_b */
    for (int output = 0; output < OUTPUTS; output++) {
        const int32_t motor_w = mulshr(s->state.v[output], outputs[output].output_w, 45);
        y[output] = (int16_t)(motor_w + outputs[output].output_b);
    }
    return status;
}

void tiny_reset(tiny_t *s)
{
    for (int i = 0; i < 2; i++) {
        s->state.v[i] = 0;
    }
}

void tiny_init(tiny_t *s)
{
    tiny_reset(s);
}

void tiny_save(const tiny_t *s, tiny_state_t *to)
{
    for (int i = 0; i < 2; i++) {
        to->v[i] = s->state.v[i];
    }
}

static const int32_t v_box[2][2] = {
    {-766958550, 925639527},
    {-850733952, 801176609},
};

uint32_t tiny_restore(tiny_t *s, const tiny_state_t *from)
{
    uint32_t status = 0;
    for (int i = 0; i < 2; i++) {
        const int32_t kept = (int32_t)clamp_i(from->v[i], v_box[i][0], v_box[i][1]);
        if (kept != from->v[i]) {
            status |= TINY_STATE_CLAMPED;
        }
        s->state.v[i] = kept;
    }
    return status;
}

/* The self test's inputs and what they must give, bit for bit. */
static const int16_t test_x[8][2] = {
    {3868, 7735},
    {11603, 15470},
    {-13429, 23206},
    {-5694, 30941},
    {2042, 5909},
    {9777, 13644},
    {-15255, 21380},
    {-7520, 29115},
};
static const int16_t test_y[8][1] = {
    {4294},
    {6542},
    {-652},
    {-895},
    {2562},
    {5934},
    {-995},
    {-1590},
};
static const int32_t test_v[2] = {-141016917, -751302140};

int tiny_self_test(void)
{
    tiny_t s;
    int16_t y[1];
    int wrong = 0;
    tiny_init(&s);
    for (int t = 0; t < 8; t++) {
        (void)tiny_step(&s, test_x[t], y);
        for (int i = 0; i < 1; i++) {
            wrong += y[i] != test_y[t][i];
        }
    }
    for (int i = 0; i < 2; i++) {
        wrong += s.state.v[i] != test_v[i];
    }
    return wrong;
}
