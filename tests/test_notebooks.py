"""The notebooks hold no outputs, and show what they promise when they are run one after the other."""

import json
import re
import shutil

import pytest

from cifar10.errors import InputError
from tests.helpers import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
DRAWS = re.compile(r"\bfigures\.\w+\(|\bFigure\(|\bSVG\(")
MOST = 50  # outputs of a cell: each line of a log is one


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """Execute a notebook in a copy of the project, with the demo's images, and return it."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    copy = tmp_path_factory.mktemp("copy")
    for name in ("conf", "notebooks", "src"):
        shutil.copytree(PROJECT / name, copy / name)
    shutil.copy(PROJECT / "pyproject.toml", copy)

    def execute(path):
        notebook = nbformat.read(path, as_version=4)
        client = nbclient.NotebookClient(
            notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(copy / "notebooks")}}
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KEDRO_ENV", "demo")
            client.execute()
        return notebook

    return execute


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown"
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_a_mistake_has_no_traceback_in_a_notebook():
    """IPython shows what this method returns."""
    assert InputError("Nothing is there.")._render_traceback_() == ["Error: Nothing is there."]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_a_notebook_says_what_must_be_run_before_it(path, execute):
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError) as error:
        execute(path)
    sentence = str(error.value).rpartition("---\n\n")[2].strip()  # after the source of the cell
    assert re.fullmatch(r"Error: .*kedro run --pipelines=\w+.*", sentence)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, execute):
    for cell in execute(path).cells:
        if cell.cell_type != "code":
            continue
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        text = "".join(output.get("text", "") for output in cell.outputs)
        assert bool(DRAWS.search(cell.source)) == any(kind.startswith("image/") for kind in kinds), cell.source
        assert len(cell.outputs) <= MOST, cell.source
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.source
        assert "WARNING" not in text, text
