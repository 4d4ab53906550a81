"""Progress bars, which need tqdm only when one is asked for."""

from typing import Any


def progress_bar(total: int, title: str, unit: str) -> Any:
    """A tqdm bar of `total` units; ImportError if tqdm is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True needs tqdm: pip install 'flowjax-solvers[examples]'."
        ) from error
    return tqdm(total=total, desc=title, unit=unit)
