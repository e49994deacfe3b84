/* cartpole in C: test itself, then read sensors, step, act. */
#define CARTPOLE_WITH_FLOAT
#include "cartpole.h"

#include <stdio.h>

/* Your sensors, in the units of training. */
static void read_sensors(float x[CARTPOLE_INPUTS])
{
    x[0] = 0.0f; /* position_m, -2.4 .. 2.4 */
    x[1] = 0.0f; /* velocity_m_per_s, -4 .. 4 */
    x[2] = 0.0f; /* angle_rad, -0.25 .. 0.25 */
    x[3] = 0.0f; /* angular_velocity_rad_per_s, -4 .. 4 */
}

int main(void)
{
    static cartpole_t policy;
    const int wrong = cartpole_self_test();
    printf("cartpole self test: %s\n", wrong == 0 ? "passed" : "FAILED");
    if (wrong != 0) {
        return 1;
    }
    cartpole_init(&policy);
    for (int step = 0; step < 5; step++) { /* here you wait for the next period, and feed your watchdog */
        float x[CARTPOLE_INPUTS];
        float y[CARTPOLE_OUTPUTS];
        read_sensors(x);
        const uint32_t status = cartpole_step_float(&policy, x, y);
        printf("push %g, status %lu\n", (double)y[0], (unsigned long)status);
    }
    return 0;
}
