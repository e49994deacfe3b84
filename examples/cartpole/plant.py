"""The cart and its pole: many plants at once in NumPy, the linear expert, and the same plant in gymnasium.

A state is (position m, velocity m/s, angle rad, angular velocity rad/s), the order of CartPole-v1's observation.
The equations of motion are those of Barto, Sutton and Anderson (1983) without friction, integrated by the explicit
Euler method at 50 Hz, as CartPole-v1 does; ``tests/test_examples.py`` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

GRAVITY = 9.8  # m/s^2
CART_MASS = 1.0  # kg
POLE_MASS = 0.1  # kg
HALF_LENGTH = 0.5  # m, centre of mass to pivot, before perturbation
FORCE = 10.0  # N, before perturbation
PERIOD = 0.02  # s
MAX_POSITION = 2.4  # m
MAX_ANGLE = 12 * 2 * np.pi / 360  # rad
EPISODE_STEPS = 500

# What the expert's regulator charges per step for the state's squares and for the force's.
STATE_COST: F64 = np.diag([1.0, 1.0, 10.0, 1.0])
FORCE_COST: F64 = np.array([[0.1]])

LENGTH_SCALE = (0.7, 1.5)
FORCE_SCALE = (0.8, 1.25)

INPUT_NAMES = ("position_m", "velocity_m_per_s", "angle_rad", "angular_velocity_rad_per_s")


@dataclass(frozen=True, eq=False)
class Plants:
    """A batch of B plants: half pole lengths in m and force magnitudes in N, each of shape (B,)."""

    half_length: F64
    force: F64

    def __len__(self) -> int:
        return int(self.half_length.shape[0])

    def accelerations(self, state: F64, force: F64) -> tuple[F64, F64]:
        """Of the cart (m/s^2) and the pole (rad/s^2), for ``state`` (B, 4) under ``force`` (B,) in N."""
        angle, spin = state[:, 2], state[:, 3]
        total = CART_MASS + POLE_MASS
        moment = POLE_MASS * self.half_length
        push = (force + moment * spin**2 * np.sin(angle)) / total
        inertia = self.half_length * (4 / 3 - POLE_MASS * np.cos(angle) ** 2 / total)
        pole = (GRAVITY * np.sin(angle) - np.cos(angle) * push) / inertia
        return push - moment * pole * np.cos(angle) / total, pole

    def advance(self, state: F64, force: F64) -> F64:
        """The state (B, 4) one period later."""
        cart, pole = self.accelerations(state, force)
        return state + PERIOD * np.stack([state[:, 1], cart, state[:, 3], pole], axis=1)


def nominal(count: int = 1) -> Plants:
    return Plants(np.full(count, HALF_LENGTH), np.full(count, FORCE))


def perturbed(rng: np.random.Generator, count: int) -> Plants:
    """``count`` plants, pole length and force uniform over their scales; the first n do not depend on ``count``."""
    scales = rng.uniform((LENGTH_SCALE[0], FORCE_SCALE[0]), (LENGTH_SCALE[1], FORCE_SCALE[1]), (count, 2))
    return Plants(HALF_LENGTH * scales[:, 0], FORCE * scales[:, 1])


def upright(state: F64) -> NDArray[np.bool_]:
    """Which of the states (B, 4) CartPole-v1 would not end the episode for."""
    inside: NDArray[np.bool_] = (np.abs(state[:, 0]) <= MAX_POSITION) & (np.abs(state[:, 2]) <= MAX_ANGLE)
    return inside


def linearise(plants: Plants) -> tuple[F64, F64]:
    """(A, B) of the first plant around the upright rest: next state = A @ state + B * force."""
    step = 1e-6
    single = Plants(plants.half_length[:1], plants.force[:1])
    rest = np.zeros((1, 4))
    columns = [single.advance(rest + step * axis, np.zeros(1))[0] / step for axis in np.eye(4)]
    return np.stack(columns, axis=1), (single.advance(rest, np.full(1, step))[0] / step)[:, None]


def expert_gain(plants: Plants, iterations: int = 3000) -> F64:
    """The gain (4,) in N per state unit of the linear-quadratic regulator, by iterating Riccati's equation.

    The expert's force is ``gain @ state``; the plant only takes full force to either side, so it gets the sign.
    """
    a, b = linearise(plants)
    cost, feedback = STATE_COST, np.zeros((1, 4))
    for _ in range(iterations):
        cost, feedback = _riccati(cost, a, b)
    gain: F64 = -feedback[0]
    return gain


def _riccati(cost: F64, a: F64, b: F64) -> tuple[F64, F64]:
    """The cost to go one step earlier, and the feedback (1, 4) that attains it."""
    feedback: F64 = np.linalg.solve(FORCE_COST + b.T @ cost @ b, b.T @ cost @ a).astype(np.float64)
    return STATE_COST + a.T @ cost @ (a - b @ feedback), feedback


def environment(plants: Plants, index: int) -> Any:
    """Plant ``index`` as gymnasium's CartPole-v1 (an object with gymnasium's ``reset`` and ``step``)."""
    import gymnasium

    env = gymnasium.make("CartPole-v1")
    body: Any = env.unwrapped
    body.length = float(plants.half_length[index])
    body.polemass_length = body.masspole * body.length
    body.force_mag = float(plants.force[index])
    return env
