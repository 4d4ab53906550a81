"""Log densities of what a flow makes of its initial distribution."""
