/* SPDX-License-Identifier: 0BSD
 *
 * cartpole in C++11: physical units in and out, no heap, no exceptions, bit for bit what cartpole.c computes.
 */
#ifndef CARTPOLE_HPP
#define CARTPOLE_HPP

#if defined(CARTPOLE_H) && !defined(CARTPOLE_WITH_FLOAT)
#error "include cartpole.hpp before cartpole.h, or define CARTPOLE_WITH_FLOAT before both"
#endif
#ifndef CARTPOLE_WITH_FLOAT
#define CARTPOLE_WITH_FLOAT
#endif
#include "cartpole.h"

namespace cartpole {

/* What one step reads. */
struct Input {
    float position_m; /* -2.4 .. 2.4 */
    float velocity_m_per_s; /* -4 .. 4 */
    float angle_rad; /* -0.25 .. 0.25 */
    float angular_velocity_rad_per_s; /* -4 .. 4 */
};

/* What one step gives. */
struct Output {
    float push;
};

/* One instance, ready to step. Any number of them may live side by side; a copy keeps the state, and brings it back. */
class Policy {
public:
    Policy() { cartpole_init(&instance_); }

    /* Back to the state it began in. */
    void reset() { cartpole_reset(&instance_); }

    /* One time step. */
    Output step(const Input &x)
    {
        Output y;
        const float in[] = {x.position_m, x.velocity_m_per_s, x.angle_rad, x.angular_velocity_rad_per_s};
        float out[CARTPOLE_OUTPUTS];
        status_ = cartpole_step_float(&instance_, in, out);
        y.push = out[0];
        return y;
    }

    /* Status bits of the last step or restore, as cartpole.h names them. */
    uint32_t status() const { return status_; }

    /* The state alone, for memory that outlives this instance; restored, it is limited to its box. */
    cartpole_state_t save() const
    {
        cartpole_state_t state;
        cartpole_save(&instance_, &state);
        return state;
    }
    void restore(const cartpole_state_t &state) { status_ = cartpole_restore(&instance_, &state); }

private:
    cartpole_t instance_;
    uint32_t status_ = 0;
};

} /* namespace cartpole */

#endif
