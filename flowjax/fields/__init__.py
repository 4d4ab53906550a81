"""Fields made from models: velocities and the SDEs with their marginals."""
