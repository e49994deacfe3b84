/* cartpole: tests itself, then reads sensors, steps and acts every PERIOD_MS, while a watchdog looks on. */
#define CARTPOLE_WITH_FLOAT
#include "cartpole.h"

#include <zephyr/device.h>
#include <zephyr/drivers/watchdog.h>
#include <zephyr/kernel.h>

#define PERIOD_MS 20 /* as long as a step of dt = 1 was in training */

static const struct device *const watchdog = DEVICE_DT_GET_OR_NULL(DT_ALIAS(watchdog0));
static const struct wdt_timeout_cfg limit = {.window = {.max = 1000}, .flags = WDT_FLAG_RESET_SOC};
K_TIMER_DEFINE(period, NULL, NULL);

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
    const int wrong = cartpole_self_test();
    printk("cartpole self test: %s\n", wrong == 0 ? "passed" : "FAILED");
    if (wrong != 0) {
        return 1; /* this is not what was verified: nothing may move */
    }
    cartpole_init(&policy);
    const int ready = watchdog != NULL && device_is_ready(watchdog);
    const int channel = ready ? wdt_install_timeout(watchdog, &limit) : -1;
    if (channel < 0 || wdt_setup(watchdog, WDT_OPT_PAUSE_HALTED_BY_DBG) != 0) {
        printk("cartpole: no watchdog looks on\n");
    }
    k_timer_start(&period, K_MSEC(PERIOD_MS), K_MSEC(PERIOD_MS));
    for (;;) {
        k_timer_status_sync(&period);
        float x[CARTPOLE_INPUTS];
        float y[CARTPOLE_OUTPUTS];
        read_sensors(x);
        const uint32_t status = cartpole_step_float(&policy, x, y);
        if (status & CARTPOLE_INPUT_NAN) {
            continue; /* a sensor fails: the watchdog starts anew */
        }
        act(y);
        if (channel >= 0) {
            wdt_feed(watchdog, channel);
        }
    }
}
