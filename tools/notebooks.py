"""Makes the notebooks of examples/notebooks from their scripts, runs them and keeps what they show.

    python tools/notebooks.py                   all of them
    python tools/notebooks.py the_notes         one

A notebook that raises, or that is larger than 500 kB, is an error. `make notebooks` calls this.
"""

import base64
import io
import pathlib
import sys
import time

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = pathlib.Path(__file__).parents[1] / "examples" / "notebooks"
MOST_BYTES = 500_000


def main(names: list[str]) -> None:
    for script in [FOLDER / f"{name}.py" for name in names] or sorted(FOLDER.glob("*.py")):
        start = time.perf_counter()
        notebook = jupytext.read(script)
        NotebookClient(notebook, timeout=600, record_timing=False).execute()
        # Nothing that differs from one run to the next but what the cells show.
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
        for number, cell in enumerate(notebook.cells):
            cell.id, cell.metadata = f"cell-{number}", {}
            for output in cell.get("outputs", []):
                shown = output.get("data", {})
                if "image/png" in shown:
                    shown["image/png"] = smaller(shown["image/png"])
        target = script.with_suffix(".ipynb")
        nbformat.write(notebook, target)
        size = target.stat().st_size
        print(f"{target.name}: {time.perf_counter() - start:.0f} s, {size / 1000:.0f} kB")
        if size > MOST_BYTES:
            sys.exit(f"{target.name} is larger than {MOST_BYTES / 1000:.0f} kB")


def smaller(png: str) -> str:
    """The picture in 64 colours, a third of the bytes."""
    written, picture = io.BytesIO(), Image.open(io.BytesIO(base64.b64decode(png)))
    picture.convert("RGB").quantize(64).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


if __name__ == "__main__":
    main(sys.argv[1:])
