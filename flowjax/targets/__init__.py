"""Processes whose truth is known in closed form."""
