// cartpole: tests itself, then reads sensors, steps and acts every PERIOD_MS, while a watchdog looks on.
#include <Arduino.h>
#include <cartpole.hpp>
#if defined(__AVR__)
#include <avr/wdt.h>
void watchdogBegin() { wdt_enable(WDTO_1S); }
void watchdogFeed() { wdt_reset(); }
#else  // put that of your board here
void watchdogBegin() {}
void watchdogFeed() {}
#endif

const unsigned long PERIOD_MS = 20;  // as long as a step of dt = 1 was in training

// Your sensors, in the units of training.
cartpole::Input readSensors() {
  cartpole::Input x;
  x.position_m = 0.0f;  // -2.4 .. 2.4
  x.velocity_m_per_s = 0.0f;  // -4 .. 4
  x.angle_rad = 0.0f;  // -0.25 .. 0.25
  x.angular_velocity_rad_per_s = 0.0f;  // -4 .. 4
  return x;
}

// Your motors.
void act(const cartpole::Output &y) {
  Serial.print("push ");
  Serial.println(y.push, 6);
}

void setup() {
  Serial.begin(115200);
  const int wrong = cartpole_self_test();
  Serial.println(wrong == 0 ? "cartpole self test: passed" : "cartpole self test: FAILED");
  while (wrong != 0) delay(1000);  // this is not what was verified: nothing may move
  watchdogBegin();
}

void loop() {
  static cartpole::Policy policy;
  static unsigned long last = millis();
  const unsigned long elapsed = millis() - last;
  if (elapsed < PERIOD_MS) return;
  last += PERIOD_MS;
  const cartpole::Output y = policy.step(readSensors());
  if (policy.status() & CARTPOLE_INPUT_NAN) return;  // a sensor fails: the watchdog starts anew
  act(y);
  watchdogFeed();
}
