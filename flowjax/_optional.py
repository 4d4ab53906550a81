"""Packages that are imported only where they are used, and need not be installed."""

import importlib
from typing import Any

# Packages whose name is another than that of their module.
_PACKAGES = {"PIL": "Pillow", "rdkit": "RDKit", "sklearn": "scikit-learn"}


def optional(module: str, who: str, extra: str) -> Any:
    """A module of an optional package; ImportError, which names the extra, without the package."""
    package = module.partition(".")[0]
    try:
        # The package first, as its module may be there from before.
        importlib.import_module(package)
        return importlib.import_module(module)
    except ImportError as error:
        name = _PACKAGES.get(package, package)
        message = f"{who} needs {name}: pip install 'flowjax-solvers[{extra}]'."
        raise ImportError(message) from error
