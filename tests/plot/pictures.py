"""One picture by each function of `flowjax.plot`, small, for what holds of all of them."""

import numpy as np

from flowjax import plot

TIMES = np.linspace(0, 1, 5)
PATHS = np.cumsum(np.random.default_rng(0).normal(size=(40, 5)), axis=1)
PLANE = np.random.default_rng(1).normal(size=(30, 5, 2))
LINES = np.asarray(plot.grid_lines(num=3, points=4))
WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
STEPS = np.array([0.1, 0.05, 0.025])
VIDEOS = np.random.default_rng(2).uniform(-1, 1, size=(2, 7, 4, 6))


def rotation(t, x, args):
    return x[::-1] * np.array([-1.0, 1.0], np.float32)


# Each is called with options that all functions have: title and ax.
PICTURES = {
    "convergence_orders": lambda **o: plot.convergence_orders(
        STEPS, {"one": STEPS, "two": STEPS**2}, **o
    ),
    "density_map": lambda **o: plot.density_map(TIMES, PATHS, **o),
    "density_ridges": lambda **o: plot.density_ridges(
        TIMES, PATHS, lambda t, x: 0.1 + 0 * x, num=3, **o
    ),
    "error_against_calls": lambda **o: plot.error_against_calls(
        1 / STEPS, {"one": STEPS, "two": STEPS**2}, **o
    ),
    "flow_grid": lambda **o: plot.flow_grid(0.5, 2 * LINES, start=LINES, **o),
    "histogram": lambda **o: plot.histogram(PATHS[:, -1], lambda x: 0.1 + 0 * x, **o),
    "image_grid": lambda **o: plot.image_grid(VIDEOS[0], 3, column_names="abc", **o),
    "molecule": lambda **o: plot.molecule(WATER, ["O", "H", "H"], **o),
    "point_clouds": lambda **o: plot.point_clouds(0.5, PLANE[:, 0], **o),
    "stochastic_paths": lambda **o: plot.stochastic_paths(
        TIMES, PATHS, exact_mean=TIMES, exact_band=np.stack([-TIMES, TIMES]), **o
    ),
    "streamlines": lambda **o: plot.vector_field(rotation, lines=True, num=9, **o),
    "trajectories": lambda **o: plot.trajectories(TIMES, PATHS[:3], exact=PATHS[:3], **o),
    "vector_field": lambda **o: plot.vector_field(rotation, num=5, paths=PLANE, **o),
    "video_strip": lambda **o: plot.video_strip(VIDEOS, frames=3, **o),
}
# Those that make a panel for each time.
PANELS = {
    "flow_grid": lambda **o: plot.flow_grid(TIMES[:3], np.stack([LINES, LINES, 2 * LINES]), **o),
    "point_clouds": lambda **o: plot.point_clouds(TIMES, PLANE, num=3, **o),
}
