"""Schedules: alpha and sigma of the path from noise (t = 0) to data (t = 1)."""
