"""Time grids, Brownian motion, steps, adjoints and the one loop."""
