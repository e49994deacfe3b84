/* cartpole: tests itself, then reads sensors, steps and acts every PERIOD_MS, while the watchdog looks on. */
#define CARTPOLE_WITH_FLOAT
#include "cartpole.h"

#include <stdio.h>

#include "hardware/watchdog.h"
#include "pico/stdlib.h"

#define PERIOD_MS 20 /* as long as a step of dt = 1 was in training */

/* Your sensors, in the units of training. */
static void read_sensors(float x[CARTPOLE_INPUTS])
{
    x[0] = 0.0f; /* position_m, -2.4 .. 2.4 */
    x[1] = 0.0f; /* velocity_m_per_s, -4 .. 4 */
    x[2] = 0.0f; /* angle_rad, -0.25 .. 0.25 */
    x[3] = 0.0f; /* angular_velocity_rad_per_s, -4 .. 4 */
}

/* Your motors. */
static void act(const float y[CARTPOLE_OUTPUTS])
{
    (void)y; /* y[0]: push */
}

int main(void)
{
    static cartpole_t policy;
    stdio_init_all();
    const int wrong = cartpole_self_test();
    do { /* again and again where it failed: this is not what was verified, and nothing may move */
        sleep_ms(2000); /* until a terminal listens on USB */
        printf("cartpole self test: %s\n", wrong == 0 ? "passed" : "FAILED");
    } while (wrong != 0);
    cartpole_init(&policy);
    watchdog_enable(1000, true);
    absolute_time_t due = get_absolute_time();
    for (;;) {
        due = delayed_by_ms(due, PERIOD_MS);
        sleep_until(due);
        float x[CARTPOLE_INPUTS];
        float y[CARTPOLE_OUTPUTS];
        read_sensors(x);
        const uint32_t status = cartpole_step_float(&policy, x, y);
        if (status & CARTPOLE_INPUT_NAN) {
            continue; /* a sensor fails: the watchdog starts anew */
        }
        act(y);
        watchdog_update();
    }
}
