// cartpole in C++: test itself, then read sensors, step, act.
#include "cartpole.hpp"

#include <cstdio>

int main()
{
    const int wrong = cartpole_self_test();
    std::printf("cartpole self test: %s\n", wrong == 0 ? "passed" : "FAILED");
    if (wrong != 0) {
        return 1;
    }
    cartpole::Policy policy;
    for (int step = 0; step < 5; step++) { // here you wait for the next period, and feed your watchdog
        cartpole::Input x = {};
        x.position_m = 0.0f; // -2.4 .. 2.4
        x.velocity_m_per_s = 0.0f; // -4 .. 4
        x.angle_rad = 0.0f; // -0.25 .. 0.25
        x.angular_velocity_rad_per_s = 0.0f; // -4 .. 4
        const cartpole::Output y = policy.step(x);
        std::printf("push %g, status %lu\n", double(y.push), static_cast<unsigned long>(policy.status()));
    }
    return 0;
}
