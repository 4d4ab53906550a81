"""The results as a picture: ratios to the floor, one panel for each row and metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import Result
from benchmarks.report import grouped
from benchmarks.targets import outcomes

# One colour and marker for each contender, the same in all panels; flowjax stands out.
_FAMILIES = {
    "flowjax": "tab:red",
    "scan": "black",
    "diffrax": "tab:blue",
    "tinydiffeq": "tab:green",
    "torchdiffeq": "tab:orange",
    "torchsde": "tab:purple",
    "flow_matching": "tab:brown",
    "Euler": "black",
    "diffusers": "tab:blue",
}
_MARKERS = "oD^vsPX*"
_LEFT_OUT = ("equations", "growth of equations", "traces of a second call")


def draw(results: Sequence[Result], title: str, path: Path) -> None:
    """Writes a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = grouped(
        result
        for result in results
        if result.metric not in _LEFT_OUT and result.row not in ("learning", "posterior")
    )
    if not panels:
        return
    heights = [max(len(group), len(group[0].ratios) / 1.8) + 2.2 for group in panels]
    figure, axes = plt.subplots(
        *(len(panels), 1),
        figsize=(11, 0.3 * sum(heights) + 1),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for ax, group in zip(axes[:, 0], panels, strict=True):
        _panel(ax, group)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(ax: Any, group: Sequence[Result]) -> None:
    names = list(group[0].ratios)
    styles = _styles(names)
    for name in sorted(names, key=lambda name: name.startswith("flowjax")):
        ratios = [result.ratios[name] for result in group]
        main = name == "flowjax"
        ax.plot(
            *(ratios, range(len(group))),
            linestyle="none",
            label=name,
            markersize=9 if main else 6,
            zorder=4 if main else 3,
            **styles[name],
        )
    for at, result in enumerate(group):
        # Where flowjax would stand if it just reached the target, the hardest of several.
        bounds = [
            result.ratios["flowjax"] * outcome.target.at_most / outcome.value
            for outcome in outcomes(result)
            if outcome.target.contender == "flowjax" and outcome.value > 0
        ]
        if bounds:
            ax.plot([min(bounds)] * 2, [at - 0.35, at + 0.35], color="tab:red", linewidth=1.2)
    ax.axvline(1, color="grey", linewidth=0.8, zorder=1)
    ax.set_xscale("log")
    ax.set_yticks(range(len(group)), [result.case for result in group], fontsize=8)
    ax.set_ylim(len(group) - 0.4, -0.6)
    ax.grid(axis="x", which="both", alpha=0.2)
    title = f"{group[0].row}: {group[0].metric}, ratio to the floor (red bar: the hardest target)"
    ax.set_title(title, fontsize=9, loc="left")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_formatter("{x:g}")
    # Between two powers of ten the axis would else have no numbers.
    ax.xaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
    ax.tick_params(axis="x", which="both", labelsize=8)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    # The first marker of its family is that of flowjax as it comes.
    styles, used = {}, {**dict.fromkeys(_FAMILIES, 0), "flowjax": 1}
    for name in names:
        family = name.split(" ")[0]
        marker = 0 if name == "flowjax" else used.get(family, 0)
        used[family] = used.get(family, 0) + 1
        fill = "none" if marker and family != "scan" else _FAMILIES.get(family)
        styles[name] = {
            "marker": _MARKERS[marker % len(_MARKERS)],
            "color": _FAMILIES.get(family),
            "markerfacecolor": fill,
        }
    return styles
