"""Progress bars, which need tqdm only when one is asked for."""

from typing import Any


def progress_bar(total: int, title: str, unit: str) -> Any:
    """A tqdm bar of `total` units; ImportError if tqdm is not installed."""
    return require_tqdm()(total=total, desc=title, unit=unit)


def require_tqdm() -> Any:
    """The class of tqdm's bars; ImportError if it is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True needs tqdm: pip install 'flowjax-solvers[examples]'."
        ) from error
    return tqdm
