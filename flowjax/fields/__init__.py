"""Fields made from models: velocities, the SDEs with their marginals, and guidance."""
