"""The page in a real browser: Debian's Chromium, without a window, against the real service."""

import base64
import io
import shutil

import numpy as np
import pytest
import requests
from PIL import Image

from tests.serving.conftest import UNSURE_BELOW, png, server, write_export

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = playwright.expect

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine: apt-get install chromium"),
]
GIVE = {  # how a person gives files to the page, by what the browser tells the page then
    "drop": "new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: files})",
    "paste": "new ClipboardEvent('paste', {bubbles: true, cancelable: true, clipboardData: files})",
}

KEEP_WHAT_IS_SENT = """
const real = fetch;
fetch = (path, options) => { window.sent = options?.body?.get("images"); return real(path, options); };
"""  # for Chromium does not give the files of a form to those who watch its requests


def picture(seed: int, *size: int, form: str = "PNG") -> bytes:
    """A patchwork of 8 x 8 random colours."""
    file = io.BytesIO()
    patches = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(patches).resize(size or (64, 48), Image.Resampling.NEAREST).save(file, form)
    return file.getvalue()


def give(page, contents: bytes, name="picture.png", kind="image/png", how="drop", count=1) -> None:
    page.evaluate(
        f"""([contents, name, kind, count]) => {{
            const files = new DataTransfer();
            for (let i = 0; i < count; i++) files.items.add(new File([new Uint8Array(contents)], name, {{type: kind}}));
            document.body.dispatchEvent({GIVE[how]});
        }}""",
        [list(contents), name, kind, count],
    )


def answer(page) -> str:
    """What the page says once it has looked."""
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")
    return page.locator("#answer").text_content()


def bars(page) -> dict[str, tuple[str, float]]:
    """Figure and share of the track of each class, from top to bottom."""
    return {
        name: (figure, share)
        for name, figure, share in page.locator("#bars tr").evaluate_all(
            """lines => lines.map(line => [line.cells[0].textContent, line.cells[2].textContent,
            line.querySelector('.bar').getBoundingClientRect().width / line.querySelector('.track').clientWidth])"""
        )
    }


def asked(address: str, contents: bytes) -> dict:
    """What the service itself answers to the same file."""
    answer = requests.post(address + "/predict?seen=true", files={"images": contents}, timeout=10)
    return answer.json()["predictions"][0]


def pixels(address: str) -> np.ndarray:
    """Those of a PNG in a data address."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))).astype(int)


def sent(page) -> bytes:
    """The picture that the page has sent to the service."""
    return bytes(page.evaluate("sent.arrayBuffer().then(bytes => [...new Uint8Array(bytes)])"))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the service listens."""
    models = tmp_path_factory.mktemp("serving")
    write_export(models)
    with server(models) as running:
        running.wait_for(lambda: requests.get(f"{running.url}/health/ready", timeout=5).ok)
        yield running.url


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as library:
        # A container's root may not make the sandbox.
        chromium = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """Open the page in a window of its own; at the end, nothing may have failed in it or left the service's origin."""
    contexts, wrong = [], []

    def note(message):
        # The browser itself logs each answer that is no success; those are what some tests are about.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    def leaves(request):
        if not request.url.startswith((address + "/", "data:", "blob:" + address)):
            wrong.append(request.url)

    def open_page(routes=(), **window):
        context = browser.new_context(reduced_motion="reduce", **window)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", leaves)
        page.add_init_script(KEEP_WHAT_IS_SENT)
        for pattern, handler in routes:
            page.route(pattern, handler)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def page(visit):
    page = visit()
    expect(page.locator("#samples button")).to_have_count(10)
    return page


@pytest.mark.parametrize("how", GIVE)
def test_given_picture_is_shown_with_the_answer_of_the_service(page, address, how):
    contents = picture(1)
    expected = asked(address, contents)

    give(page, contents, how=how)

    expect(page.locator("#bars .best")).to_have_count(1)
    assert answer(page).endswith(f"{expected['answer']}, {100 * expected['probability']:.0f}%")
    shown = bars(page)
    assert list(shown) == list(expected["probabilities"])
    for name, probability in expected["probabilities"].items():
        figure, share = shown[name]
        assert share == pytest.approx(probability, abs=0.01)
        assert float(figure.strip("<>%")) == pytest.approx(100 * probability, abs=0.1)
    assert page.locator("#bars .best th").text_content() == expected["answer"]
    for image, width in (("#chosen", 64), ("#seen", 32)):
        expect(page.locator(image)).to_be_visible()
        assert page.locator(image).evaluate("each => each.naturalWidth") == width


def test_chosen_file_is_asked_about_as_it_is(page):
    contents = picture(2, form="BMP")
    with page.expect_file_chooser() as chooser:
        page.locator("#zone").click()
    chooser.value.set_files({"name": "a.bmp", "mimeType": "image/bmp", "buffer": contents})
    expect(page.locator("#bars .best")).to_have_count(1)
    assert sent(page) == contents


@pytest.mark.parametrize(("size", "form"), [((2400, 1800), "PNG"), ((64, 48), "AVIF")])
def test_what_the_service_would_refuse_is_made_smaller_first(page, address, size, form):
    expected = asked(address, picture(3))

    give(page, picture(3, *size, form=form), kind=f"image/{form.lower()}")

    expect(page.locator("#bars .best")).to_have_count(1)
    smaller = Image.open(io.BytesIO(sent(page)))
    assert smaller.format == "PNG"
    assert smaller.size == 2 * (min(*size, 512),)
    difference = pixels(page.locator("#seen").get_attribute("src")) - pixels(expected["seen"])
    assert np.abs(difference).mean() < (
        15 if form == "AVIF" else 3
    )  # AVIF itself is not exact; another picture is 85 away


def test_invalid_file_ends_in_a_sentence_and_the_page_goes_on(page):
    give(page, picture(1))
    expect(page.locator("#bars .best")).to_have_count(1)

    give(page, b"no picture at all", name="notes.txt", kind="text/plain")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("picture")
    assert answer(page) == "No picture yet"
    expect(page.locator("#bars .best")).to_have_count(0)

    give(page, picture(1))
    expect(page.locator("#bars .best")).to_have_count(1)
    expect(alert).to_be_empty()


def test_file_too_large_that_the_browser_cannot_read_is_not_sent(page):
    asked_for = []
    page.on("request", lambda request: asked_for.append(request.url))
    page.locator("#file").set_input_files({"name": "a.heic", "mimeType": "image/heic", "buffer": bytes(6_000_000)})
    expect(page.get_by_role("alert")).to_contain_text("The file has 6.0 MB, and the service takes 5.0.")
    assert not asked_for


def test_what_holds_no_file_ends_in_a_sentence(page):
    give(page, b"", how="paste", count=0)
    expect(page.get_by_role("alert")).to_contain_text("no picture in the clipboard")


def test_of_several_the_first_is_taken_and_the_page_says_so(page):
    give(page, picture(1), count=3)
    expect(page.locator("#note")).to_contain_text("The first of your 3 pictures.")


def test_keyboard_alone(page):
    with page.expect_file_chooser():
        page.keyboard.press("Tab")
        expect(page.locator("#zone")).to_be_focused()
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused.locator("img")).to_have_attribute("alt", page.locator("#samples img").nth(1).get_attribute("alt"))
    assert focused.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("#bars .best")).to_have_count(1)
    announced = page.get_by_role("status").filter(has=page.locator("#answer"))
    expect(announced).to_contain_text(page.locator("#bars .best th").text_content())
    expect(focused).to_be_focused()


def test_screen_reader_is_told_what_the_eye_sees(page):
    for role, name in (
        ("region", "Give a picture"),
        ("region", "What the network says"),
        ("table", "How probable each of them is"),
        ("group", "Or try one of these"),
    ):
        expect(page.get_by_role(role, name=name)).to_be_visible()
    expect(page.get_by_role("rowheader")).to_have_count(10)
    expect(page.get_by_role("button", name="Example: ")).to_have_count(10)
    assert not page.locator("img:not([alt])").count()


@pytest.mark.parametrize("width", [320, 390, 1440])
def test_every_width_is_enough(visit, width):
    page = visit(viewport={"width": width, "height": 844})
    page.locator("#samples button").first.click()
    expect(page.locator("#bars .best")).to_have_count(1)
    expect(page.locator("#answer")).to_be_in_viewport()
    expect(page.locator("#seen")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_page_follows_the_scheme_and_can_be_read(visit, scheme, dark):
    page = visit(color_scheme=scheme)
    page.locator("#samples button").first.click()
    expect(page.locator("#bars .best")).to_have_count(1)
    page.evaluate("document.getElementById('unsure').hidden = false")
    give(page, b"no picture", kind="text/plain")
    expect(page.get_by_role("alert")).not_to_be_empty()
    ground = luminance(colour(page, "body", "backgroundColor"))
    assert (ground < 0.1) == dark
    for text in ("body", ".lead", "#zone .soft", "#error", "footer a"):
        behind = page.locator(text).evaluate(
            """each => {
                const ground = () => getComputedStyle(each).backgroundColor;
                while (ground() === 'rgba(0, 0, 0, 0)') each = each.parentElement;
                return ground();
            }"""
        )
        assert contrast(colour(page, text, "color"), behind) >= 4.5, text


def colour(page, place: str, what: str) -> str:
    return page.locator(place).evaluate(f"each => getComputedStyle(each).{what}")


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)`."""
    values = np.array([float(each) for each in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("drawn", "unsure"), [("red", False), ("grey", True)])
def test_page_says_when_a_picture_is_unlike_the_training_pictures(page, drawn, unsure):
    give(page, png(drawn))

    expect(page.locator("#bars .best")).to_have_count(1)
    assert answer(page).startswith("Best guess: ") == unsure
    notice = page.locator("#unsure")
    expect(notice).to_be_visible(visible=unsure)
    if unsure:
        expect(notice).to_contain_text("unlike anything the model was trained on")
        expect(notice).to_contain_text(f"below {100 * UNSURE_BELOW:.1f}%, as only 5% of the validation pictures' are")


def test_page_waits_for_a_model(visit):
    answers = [{"status": 503, "json": {"error": "There is no model here."}}]
    page = visit(routes=[("**/model", lambda route: route.fulfill(**answers.pop()) if answers else route.continue_())])
    notice = page.get_by_role("status").first
    expect(notice).to_contain_text("There is no model here.")
    expect(page.locator("#card")).to_contain_text("test pictures (95% interval")  # after a few seconds, by itself
    expect(notice).to_be_empty()


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (lambda route: route.abort(), "The service cannot be reached."),
        (lambda route: route.fulfill(status=503, json={"error": "It is busy; try again."}), "It is busy; try again."),
        (lambda route: route.fulfill(status=502, body="<html>Bad gateway"), "answered with an error (502)"),
    ],
)
def test_failure_on_the_way_ends_in_a_sentence(visit, handler, sentence):
    page = visit(routes=[("**/predict*", handler)])
    page.locator("#samples button").first.click()
    expect(page.get_by_role("alert")).to_contain_text(sentence)
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")


def test_slow_answer_does_not_overwrite_a_later_one(visit):
    held = []
    page = visit(routes=[("**/predict*", lambda route: route.continue_() if held else held.append(route))])
    with page.expect_request("**/predict*") as slow:
        give(page, picture(1))
    with page.expect_event("requestfailed", lambda request: request == slow.value):
        give(page, picture(2), count=2)
    expect(page.locator("#note")).to_contain_text("The first of your 2 pictures.")
    expect(page.get_by_role("alert")).to_be_empty()
