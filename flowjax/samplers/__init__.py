"""Few-step methods for schedules: steps for `solve`."""
