"""Pictures of flows and diffusions, still and moving; matplotlib is imported when one is drawn.

Each function takes arrays, draws into the matplotlib axes it is given or into a new figure, and
returns the figure. Nothing is shown and no setting of matplotlib is changed. The colours are safe
for the colour-blind; inside ``with plot.dark():`` they are light on dark.
"""

from flowjax.plot._style import dark as dark
from flowjax.plot.animation import animate as animate
from flowjax.plot.errors import convergence_orders as convergence_orders
from flowjax.plot.errors import error_against_calls as error_against_calls
from flowjax.plot.fields import flow_grid as flow_grid
from flowjax.plot.fields import grid_lines as grid_lines
from flowjax.plot.fields import vector_field as vector_field
from flowjax.plot.images import image_grid as image_grid
from flowjax.plot.images import video_strip as video_strip
from flowjax.plot.laws import histogram as histogram
from flowjax.plot.molecules import molecule as molecule
from flowjax.plot.over_time import density_map as density_map
from flowjax.plot.over_time import density_ridges as density_ridges
from flowjax.plot.over_time import point_clouds as point_clouds
from flowjax.plot.paths import stochastic_paths as stochastic_paths
from flowjax.plot.paths import trajectories as trajectories

__all__ = [
    "animate",
    "convergence_orders",
    "dark",
    "density_map",
    "density_ridges",
    "error_against_calls",
    "flow_grid",
    "grid_lines",
    "histogram",
    "image_grid",
    "molecule",
    "point_clouds",
    "stochastic_paths",
    "trajectories",
    "vector_field",
    "video_strip",
]
