"""Progress bars, which need tqdm only when one is asked for."""

from typing import Any

from flowjax._optional import optional


def progress_bar(total: int, title: str, unit: str) -> Any:
    """A tqdm bar of `total` units; ImportError if tqdm is not installed."""
    return require_tqdm()(total=total, desc=title, unit=unit)


def require_tqdm() -> Any:
    """The class of tqdm's bars; ImportError if it is not installed."""
    return optional("tqdm.auto", "progress=True", "examples").tqdm
