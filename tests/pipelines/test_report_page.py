"""The report in Chromium (Debian's package, headless): sorting, narrow screens, downloads."""

import pytest

from cifar10 import figures
from cifar10.pipelines.reporting.nodes import labelled
from tests.helpers import make_evaluation, make_evaluations, make_pair, make_record
from tests.pipelines.test_reporting import UNRANKED, as_svg, leaderboard, report_page

LOOKS_AT_FIGURES = True

pytestmark = pytest.mark.browser
MODELS = {"vgg16": 0.9, "batchnorm_cnn": 0.85, "mobilenetv2_imagenet": 0.95}  # test accuracies
NAMES = "rows => rows.map(row => row.cells[1].textContent)"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A report of three models, the last of which has no rank, with two figures."""
    *ranked, last = MODELS
    interval = {"accuracy_low": 0.8, "accuracy_high": 0.96}
    everything = make_record(architecture=last, recipe={"train_on": "all"})
    evaluations = make_evaluations(
        *(make_evaluation(name, accuracy=MODELS[name], **interval) for name in ranked),
        make_evaluation(record=everything, accuracy=MODELS[last], **interval, **UNRANKED),
        pairs=[make_pair("vgg16", "batchnorm_cnn"), make_pair("vgg16", last), make_pair("batchnorm_cnn", last)],
    )
    drawn = [as_svg(labelled(draw)(leaderboard(evaluations))) for draw in (figures.comparison, figures.trade_offs)]
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(report_page(evaluations, drawn=[*drawn, *[None] * 5]), encoding="utf-8")
    return file


def test_the_leaderboard_is_sorted_by_keyboard(browser, path):
    page = browser.new_page()
    page.goto(path.as_uri())
    table = page.locator("#leaderboard")
    rows, heading = table.locator("tbody tr"), table.locator("th").nth(3)
    assert rows.evaluate_all(NAMES) == list(MODELS)
    for order, names in (
        ("ascending", ["batchnorm_cnn", "vgg16", "mobilenetv2_imagenet"]),
        ("descending", ["mobilenetv2_imagenet", "vgg16", "batchnorm_cnn"]),
    ):
        heading.get_by_role("button", name="Test accuracy").press("Enter")
        assert rows.evaluate_all(NAMES) == names
        assert heading.get_attribute("aria-sort") == order
    for names in (["vgg16", "batchnorm_cnn"], ["batchnorm_cnn", "vgg16"]):  # what has no rank is last in both orders
        table.get_by_role("button", name="Rank").press("Space")
        assert rows.evaluate_all(NAMES) == [*names, "mobilenetv2_imagenet"]
    assert table.locator("[aria-sort]").count() == 1


def test_without_javascript_the_table_is_in_the_order_of_ranks(browser, path):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    assert page.locator("#leaderboard tbody a").all_text_contents() == list(MODELS)
    assert page.locator("#leaderboard th").first.text_content() == "Rank"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_narrow_screen_tables_scroll_in_their_box_and_figures_fit(browser, path, scheme):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.get_by_role("region", name="Leaderboard").evaluate("box => box.scrollWidth > box.clientWidth")
    widths = page.locator("figure img").evaluate_all("images => images.map(image => image.clientWidth)")
    assert len(widths) >= 2
    assert set(widths) == {358}  # at which `test_figures.py` holds that they can be read


def test_the_tables_can_be_downloaded(browser, path):
    page = browser.new_page()
    page.goto(path.as_uri())
    for name, first in (("leaderboard.csv", "rank,name,"), ("pairs.csv", "first,second,")):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.suggested_filename == name
        assert download.value.path().read_text(encoding="utf-8").startswith(first)
