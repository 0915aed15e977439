"""The results that come with the clone: what docs and README say is what the published probabilities give."""

import pandas as pd
import pytest

from tests.helpers import PROJECT, run

PUBLISHED = PROJECT / "data/published"


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """The tables that `kedro run --env=published --pipelines=reporting` writes."""
    folder = tmp_path_factory.mktemp("docs")
    nodes = ["reporting.rank", "reporting.list_pairs", "reporting.write_markdown"]
    run(folder, "reporting", nodes=nodes, env="published", docs_root=str(folder), published_root=str(PUBLISHED))
    return folder


def test_page_is_what_the_published_probabilities_give(docs):
    written = PROJECT / "docs/leaderboard.md"
    assert written.read_text(encoding="utf-8") == (docs / "leaderboard.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["leaderboard.csv", "pairs.csv"])
def test_tables_are_what_the_published_probabilities_give(docs, name):
    """Up to the last digits, in which processors differ, and the digest, which depends on them."""
    written, again = (
        pd.read_csv(folder / name).drop(columns="evaluations", errors="ignore") for folder in (PROJECT / "docs", docs)
    )
    pd.testing.assert_frame_equal(again, written, rtol=1e-4)


@pytest.mark.slow
def test_the_whole_report_of_the_published_models_is_made(tmp_path):
    run(tmp_path, "reporting", env="published", docs_root=str(tmp_path), published_root=str(PUBLISHED))
    names = {path.name for path in (PROJECT / "docs/figures").iterdir()}
    assert names <= {path.name for path in (tmp_path / "figures").iterdir()}  # those that are in the repository
    assert "models on CIFAR-10</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_table_of_the_readme_has_the_first_rows_of_the_leaderboard():
    """Without the options in which rows of one architecture differ, and where lines may not break."""
    leaderboard = first_table((PROJECT / "docs/leaderboard.md").read_text(encoding="utf-8"))
    leaderboard.model = leaderboard.model.str.replace(r" \(.*\)", "", regex=True)
    readme = (PROJECT / "README.md").read_text(encoding="utf-8").split("## Results")[1]
    table = first_table(readme.replace("&nbsp;", " "))
    assert len(table) >= 5
    pd.testing.assert_frame_equal(table, leaderboard[table.columns].head(len(table)))


def first_table(text):
    """Return the cells of the first table in a Markdown text."""
    lines = [line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("|")]
    end = next((place for place, line in enumerate(lines[2:], start=2) if len(line) != len(lines[0])), len(lines))
    return pd.DataFrame(lines[2:end], columns=lines[0])
