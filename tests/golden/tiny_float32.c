/* SPDX-License-Identifier: 0BSD */
#include "tiny.h"

#include <float.h>

/* Every operation is rounded to binary32 by itself: no wider intermediate results, no fused multiply-add, whatever
 * the compiler's default is. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
typedef char binary32_arithmetic[FLT_EVAL_METHOD == 0 && FLT_MANT_DIG == 24 ? 1 : -1];

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

/* Short loops of varying length: unrolling them costs more than it saves. */
#if defined(__clang__)
#define NOT_UNROLLED _Pragma("clang loop unroll(disable)")
#else
#define NOT_UNROLLED
#endif

/* A float and its bits. */
typedef union {
    float value;
    uint32_t bits;
} float_bits_t;

static int is_finite(float a)
{
    float_bits_t number;
    number.value = a;
    return (number.bits & 0x7F800000u) != 0x7F800000u;
}

/* a, or 0 where a is NaN or infinite. */
static float finite_f(float a)
{
    return is_finite(a) ? a : 0.0f;
}

/* Whether two floats differ in any bit. */
static int differ_f(float a, float b)
{
    float_bits_t left;
    float_bits_t right;
    left.value = a;
    right.value = b;
    return left.bits != right.bits;
}

/* e^x for x limited to [-87.0f, 88.0f]: x = n ln 2 + r with |r| <= ln(2)/2 (Cody and Waite), a polynomial in r,
 * times 2^n through the exponent field. Every operation is rounded to binary32 and none is contracted. */
static float exp_f(float x)
{
    x = x > -87.0f ? x : -87.0f;
    x = x < 88.0f ? x : 88.0f;
    float_bits_t shifted; /* rounded to a whole number, which its last bits hold */
    shifted.value = x * 1.442695f + 1.2582912e+07f;
    const float whole = shifted.value - 1.2582912e+07f;
    const float r = (x - whole * 0.6933594f) - whole * -0.00021219444f;
    const float square = r * r;
    const float p = (1.0f + r) + square * ((0.4999923f + 0.16667114f * r) + square * (0.041890185f + 0.008312518f * r));
    float_bits_t power;
    power.bits = (shifted.bits << 23) + 0x3F800000u;
    return p * power.value;
}

static float sigmoid_f(float x)
{
    return 1.0f / (1.0f + exp_f(-x));
}

typedef struct {
    float leak;
    float den_l;
    float cm_t;
    int8_t sensory_synapses_here; /* how many end here */
    int8_t synapses_here; /* how many end here */
} neuron_t;

static const neuron_t neurons[2] = {
    {  0.0f, 3.2f, 3.0f, 1, 2}, /* steer */
    {-0.03f, 2.7f, 2.4f, 1, 1}, /* memory */
};

typedef struct {
    float mu_s;
    float sigma_s;
    float w_s;
    float erev_s;
    int8_t pre_s; /* position in inputs */
} sensory_synapse_t;

static const sensory_synapse_t sensory_synapses[2] = {
    {0.2f, 3.0f, 0.5f,  1.0f, 0}, /* offset -> steer */
    {0.4f, 5.0f, 1.0f, -1.0f, 1}, /* speed -> memory */
};

typedef struct {
    float mu;
    float sigma;
    float w;
    float erev;
    int8_t pre; /* position in neurons */
} synapse_t;

static const synapse_t synapses[3] = {
    {0.2f, 3.0f,  0.5f, -1.0f, 0}, /* steer -> steer */
    {0.3f, 4.0f, 0.75f,  1.0f, 1}, /* memory -> steer */
    {0.4f, 5.0f,  1.0f,  1.0f, 0}, /* steer -> memory */
};

typedef struct {
    float y_scale;
    float y_offset;
} output_t;

static const output_t outputs[1] = {
    {1.5f, 0.1f},
};

uint32_t tiny_step(tiny_t *s, const float x[2], float y[1])
{
    uint32_t status = 0;
    float x_value[2];
    struct {
        float num_s;
        float den_s;
    } neuron_values[2];
    float v_now_other[2];
    for (int input = 0; input < INPUTS; input++) {
        x_value[input] = finite_f(x[input]);
        if (!is_finite(x[input])) {
            status |= TINY_INPUT_NAN;
        }
    }
    /* num_s, den_s over sensory synapses */
    const sensory_synapse_t *sensory_synapse = sensory_synapses;
    for (int neuron = 0; neuron < NEURONS; neuron++) {
        float num_s_sum = neurons[neuron].leak;
        float den_s_sum = neurons[neuron].den_l;
        const sensory_synapse_t *const sensory_synapse_end = sensory_synapse + neurons[neuron].sensory_synapses_here;
        NOT_UNROLLED
        for (; sensory_synapse != sensory_synapse_end; sensory_synapse++) {
            const float from_mu_s = x_value[sensory_synapse->pre_s] - sensory_synapse->mu_s;
            const float g_s = sensory_synapse->w_s * sigmoid_f(sensory_synapse->sigma_s * from_mu_s);
            num_s_sum += g_s * sensory_synapse->erev_s;
            den_s_sum += g_s;
        }
        neuron_values[neuron].num_s = num_s_sum;
        neuron_values[neuron].den_s = den_s_sum;
    }
    float *v_now = s->state.v;
    float *v_now_next = v_now_other;
    for (int unfold = 0; unfold < 6; unfold++) {
        /* num, den over recurrent synapses */
        const synapse_t *synapse = synapses;
        for (int neuron = 0; neuron < NEURONS; neuron++) {
            PROFILE_LABEL(ncpc_neuron);
            float num = neuron_values[neuron].num_s;
            float den = neuron_values[neuron].den_s;
            const synapse_t *const synapse_end = synapse + neurons[neuron].synapses_here;
            NOT_UNROLLED
            for (; synapse != synapse_end; synapse++) {
                const float s_value = sigmoid_f(synapse->sigma * (v_now[synapse->pre] - synapse->mu));
                const float g = synapse->w * s_value;
                num += g * synapse->erev;
                den += g;
            }
            /* v <- (cm_t*v + num) / den */
            v_now_next[neuron] = (neurons[neuron].cm_t * v_now[neuron] + num) / den;
            PROFILE_LABEL(ncpc_neuron_end);
        }
        float *old = v_now;
        v_now = v_now_next;
        v_now_next = old;
    }
    /* y = v[motor]*output_w + output_b */
    for (int output = 0; output < OUTPUTS; output++) {
        y[output] = s->state.v[output] * outputs[output].y_scale + outputs[output].y_offset;
    }
    return status;
}

void tiny_reset(tiny_t *s)
{
    for (int i = 0; i < 2; i++) {
        s->state.v[i] = 0.0f;
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

uint32_t tiny_restore(tiny_t *s, const tiny_state_t *from)
{
    uint32_t status = 0;
    for (int i = 0; i < 2; i++) {
        const float kept = finite_f(from->v[i]);
        if (kept != from->v[i]) {
            status |= TINY_STATE_CLAMPED;
        }
        s->state.v[i] = kept;
    }
    return status;
}

/* The self test's inputs and what they must give, bit for bit. */
static const float test_x[8][2] = {
    {0.23606798f, 0.9442719f},
    {0.7082039f, 1.8885438f},
    {-0.8196601f, 2.8328156f},
    {-0.34752417f, 3.7770877f},
    {0.124611795f, 0.72135955f},
    {0.59674776f, 1.6656314f},
    {-0.9311163f, 2.6099033f},
    {-0.45898035f, 3.5541754f},
};
static const float test_y[8][1] = {
    {0.26211086f},
    {0.3993207f},
    {-0.039799027f},
    {-0.054598592f},
    {0.1564079f},
    {0.36217096f},
    {-0.06075012f},
    {-0.09700825f},
};
static const float test_v[2] = {-0.13133883f, -0.69974387f};

int tiny_self_test(void)
{
    tiny_t s;
    float y[1];
    int wrong = 0;
    tiny_init(&s);
    for (int t = 0; t < 8; t++) {
        (void)tiny_step(&s, test_x[t], y);
        for (int i = 0; i < 1; i++) {
            wrong += differ_f(y[i], test_y[t][i]);
        }
    }
    for (int i = 0; i < 2; i++) {
        wrong += differ_f(s.state.v[i], test_v[i]);
    }
    return wrong;
}
