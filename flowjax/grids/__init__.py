"""Time grids: an array of n + 1 times, which anything may make."""
