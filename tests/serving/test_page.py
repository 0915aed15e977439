"""The web page in Chromium (Debian's package, headless), with a running service."""

import base64
import io
import re

import numpy as np
import pytest
import requests
from PIL import Image

from cifar10.confidence import percent
from cifar10.serving.routes import PAGE
from tests.serving.conftest import UNSURE_BELOW, png, server, write_export
from tests.test_confidence import PERCENTAGES

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = playwright.expect

pytestmark = pytest.mark.browser
UPLOAD_EVENTS = {  # the events that a browser fires for each way of uploading files
    "drop": "new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: files})",
    "paste": "new ClipboardEvent('paste', {bubbles: true, cancelable: true, clipboardData: files})",
}

RECORD_UPLOADS = """
const originalFetch = fetch;
fetch = (path, options) => { window.uploaded = options?.body?.get("images"); return originalFetch(path, options); };
"""  # because Chromium does not expose the files of a form to request listeners


def random_image(seed: int, *size: int, format: str = "PNG") -> bytes:
    """An image of 8 x 8 patches with random colours."""
    file = io.BytesIO()
    patches = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(patches).resize(size or (64, 48), Image.Resampling.NEAREST).save(file, format)
    return file.getvalue()


def upload(page, contents: bytes, name="image.png", content_type="image/png", how="drop", count=1) -> None:
    page.evaluate(
        f"""([contents, name, type, count]) => {{
            const files = new DataTransfer();
            for (let i = 0; i < count; i++) files.items.add(new File([new Uint8Array(contents)], name, {{type}}));
            document.body.dispatchEvent({UPLOAD_EVENTS[how]});
        }}""",
        [list(contents), name, content_type, count],
    )


def prediction(page) -> str:
    """The prediction as the page shows it, after the request is finished."""
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")
    return page.locator("#prediction").text_content()


def bars(page) -> dict[str, tuple[str, float]]:
    """The text and the relative length of the bar of each class, from top to bottom."""
    return {
        name: (text, length)
        for name, text, length in page.locator("#bars tr").evaluate_all(
            """rows => rows.map(row => [row.cells[0].textContent, row.cells[2].textContent,
            row.querySelector('.bar').getBoundingClientRect().width / row.querySelector('.track').clientWidth])"""
        )
    }


def predict(url: str, contents: bytes) -> dict:
    """The prediction of the service for the same file."""
    response = requests.post(url + "/predict?input_image=true", files={"images": contents}, timeout=10)
    return response.json()["predictions"][0]


def pixels(data_uri: str) -> np.ndarray:
    """The pixels of a PNG data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri.partition(",")[2])))).astype(int)


def uploaded(page) -> bytes:
    """The file that the page sent to the service."""
    return bytes(page.evaluate("uploaded.arrayBuffer().then(bytes => [...new Uint8Array(bytes)])"))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of a running service."""
    models = tmp_path_factory.mktemp("serving")
    write_export(models)
    with server(models) as running:
        running.wait_for(lambda: requests.get(f"{running.url}/health/ready", timeout=5).ok)
        yield running.url


@pytest.fixture
def visit(browser, url):
    """Open the page in a new browser context; fail at the end if it logged errors or sent requests elsewhere."""
    contexts, problems = [], []

    def check_message(message):
        # Chromium itself logs error responses, which some tests provoke, and Swagger UI that it has no form for a file.
        expected = ("Failed to load resource", "Could not find component: JsonSchema_string_binary")
        if message.type in ("error", "warning") and not message.text.startswith(expected):
            problems.append(message.text)

    def check_origin(request, address):
        if not request.url.startswith((address, "data:", "blob:")):
            problems.append(request.url)

    def open_page(routes=(), address=url, **options):
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", check_message)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: check_origin(request, address))
        page.add_init_script(RECORD_UPLOADS)
        for pattern, handler in routes:
            page.route(pattern, handler)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def page(visit):
    page = visit()
    expect(page.locator("#samples button")).to_have_count(10)
    return page


@pytest.mark.parametrize("how", UPLOAD_EVENTS)
def test_an_uploaded_image_is_shown_with_the_prediction_of_the_service(page, url, how):
    contents = random_image(1)
    expected = predict(url, contents)

    upload(page, contents, how=how)

    expect(page.locator("#bars .predicted")).to_have_count(1)
    assert prediction(page) == expected["summary"]
    shown = bars(page)
    assert list(shown) == list(expected["probabilities"])
    for name, probability in expected["probabilities"].items():
        text, length = shown[name]
        assert length == pytest.approx(probability, abs=0.01)
        assert text == percent(probability)
    assert page.locator("#bars .predicted th").text_content() == expected["label"]
    for image, width in (("#uploaded-image", 64), ("#input-image", 32)):
        expect(page.locator(image)).to_be_visible()
        assert page.locator(image).evaluate("each => each.naturalWidth") == width


def test_percentages_are_those_of_the_service(page):
    fractions = list(PERCENTAGES)
    assert page.evaluate("fractions => fractions.map(percent)", fractions) == list(PERCENTAGES.values())


@pytest.mark.parametrize("size", [(64, 48), (30, 60), (32, 32)])
def test_the_crop_is_shown_on_the_image(page, size):
    upload(page, random_image(1, *size))
    expect(page.locator("#crop")).to_be_visible()
    crop, frame = (page.locator(each).bounding_box() for each in ("#crop", ".frame:has(#crop)"))
    assert crop["width"] == pytest.approx(crop["height"], abs=0.1)
    assert crop["width"] / frame["width"] == pytest.approx(min(size) / max(size), abs=0.01)
    for side, length in (("x", "width"), ("y", "height")):
        centres = [each[side] + each[length] / 2 for each in (crop, frame)]
        assert centres[0] == pytest.approx(centres[1], abs=0.1)


def test_the_model_is_named_above_the_fold(visit):
    page = visit(viewport={"width": 1200, "height": 900})
    page.locator("#samples button").first.click()
    expect(page.locator("#bars .predicted")).to_have_count(1)
    expect(page.locator("#model-summary")).to_contain_text("airbench94, version 1. Test accuracy: 92.8%")
    expect(page.locator("#model-summary")).to_be_in_viewport()


def test_the_documentation_can_be_used(visit, url):
    page = visit()
    page.set_default_timeout(60_000)  # Swagger UI needs a second on a free machine
    page.goto(f"{url}/docs")
    page.locator("#operations-Service-predict_predict_post .opblock-summary").click()
    page.get_by_role("button", name="Try it out").click()
    page.locator(".opblock-body input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": png("red")}
    )
    page.get_by_role("button", name="Execute").click()
    body = page.locator(".live-responses-table td.response-col_description pre").first
    expect(body).to_contain_text('"label": "airplane"', timeout=60_000)


def test_a_chosen_file_is_sent_unchanged(page):
    contents = random_image(2, format="BMP")
    with page.expect_file_chooser() as chooser:
        page.locator("#dropzone").click()
    chooser.value.set_files({"name": "a.bmp", "mimeType": "image/bmp", "buffer": contents})
    expect(page.locator("#bars .predicted")).to_have_count(1)
    assert uploaded(page) == contents


@pytest.mark.parametrize(("size", "format"), [((2400, 1800), "PNG"), ((64, 48), "AVIF")])
def test_an_image_that_the_service_would_reject_is_resized_first(page, url, size, format):
    expected = predict(url, random_image(3))

    upload(page, random_image(3, *size, format=format), content_type=f"image/{format.lower()}")

    expect(page.locator("#bars .predicted")).to_have_count(1)
    resized = Image.open(io.BytesIO(uploaded(page)))
    assert resized.format == "PNG"
    assert resized.size == 2 * (min(*size, 512),)
    difference = pixels(page.locator("#input-image").get_attribute("src")) - pixels(expected["input_image"])
    max_difference = 15 if format == "AVIF" else 3  # AVIF is lossy; different images differ by about 85
    assert np.abs(difference).mean() < max_difference


def test_an_image_is_resized_to_the_limit_of_the_service(visit, url):
    limited = {**requests.get(url + "/model", timeout=10).json(), "max_pixels": 10_000}
    page = visit(routes=[("**/model", lambda route: route.fulfill(json=limited))])
    expect(page.locator("#samples button")).to_have_count(10)
    upload(page, random_image(3, 240, 180))
    expect(page.locator("#bars .predicted")).to_have_count(1)
    assert Image.open(io.BytesIO(uploaded(page))).size == (100, 100)


def test_an_invalid_file_shows_an_error_and_the_page_still_works(page):
    upload(page, random_image(1))
    expect(page.locator("#bars .predicted")).to_have_count(1)

    upload(page, b"not an image", name="notes.txt", content_type="text/plain")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("notes.txt is not an image in a supported format")
    assert prediction(page) == "No image yet"
    expect(page.locator("#bars .predicted")).to_have_count(0)

    upload(page, random_image(1))
    expect(page.locator("#bars .predicted")).to_have_count(1)
    expect(alert).to_be_empty()


def test_a_large_file_that_the_browser_cannot_resize_is_not_sent(page):
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    file = {"name": "a.heic", "mimeType": "image/heic", "buffer": bytes(6_000_000)}
    page.locator("#file-input").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text("The file is too large (6.0 MB; the limit is 5.0 MB)")
    assert not requested


def test_a_browser_that_cannot_write_an_image_says_so(page):
    page.evaluate("() => { HTMLCanvasElement.prototype.toBlob = (callback) => callback(null); }")
    upload(page, random_image(3, 2400, 1800))
    expect(page.get_by_role("alert")).to_contain_text("This browser could not resize the image.")
    assert prediction(page) == "No image yet"


def test_pasting_without_a_file_shows_an_error(page):
    upload(page, b"", how="paste", count=0)
    expect(page.get_by_role("alert")).to_contain_text("The clipboard contains no image.")


def test_only_the_first_of_several_files_is_used_and_the_page_says_so(page):
    upload(page, random_image(1), count=3)
    expect(page.locator("#details")).to_contain_text("Only the first of your 3 images was used.")


def test_the_page_can_be_used_with_the_keyboard(page):
    with page.expect_file_chooser():
        page.keyboard.press("Tab")
        expect(page.locator("#dropzone")).to_be_focused()
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused.locator("img")).to_have_attribute("alt", page.locator("#samples img").nth(1).get_attribute("alt"))
    assert focused.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("#bars .predicted")).to_have_count(1)
    announced = page.get_by_role("status").filter(has=page.locator("#prediction"))
    expect(announced).to_contain_text(page.locator("#bars .predicted th").text_content())
    expect(focused).to_be_focused()


def test_every_part_has_an_accessible_name(page):
    for role, name in (
        ("region", "Upload an image"),
        ("region", "Prediction"),
        ("table", "Probability of each class"),
        ("group", "Or try an example"),
    ):
        expect(page.get_by_role(role, name=name)).to_be_visible()
    expect(page.get_by_role("rowheader")).to_have_count(10)
    expect(page.get_by_role("button", name="Example: ")).to_have_count(10)
    assert not page.locator("img:not([alt])").count()


@pytest.mark.parametrize("width", [320, 390, 1440])
def test_the_page_fits_every_width(visit, width):
    page = visit(viewport={"width": width, "height": 844})
    page.locator("#samples button").first.click()
    expect(page.locator("#bars .predicted")).to_have_count(1)
    expect(page.locator("#prediction")).to_be_in_viewport()
    expect(page.locator("#input-image")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("classes", [3, 20])
def test_the_page_works_with_any_number_of_classes(visit, tmp_path, classes):
    write_export(tmp_path, class_names=[f"class {index}" for index in range(classes)])
    with server(tmp_path) as running:
        running.wait_for(lambda: requests.get(f"{running.url}/health/ready", timeout=5).ok)
        page = visit(address=running.url)
        expect(page.locator("#samples button")).to_have_count(classes)
        expect(page.locator("#bars tr")).to_have_count(classes)
        expect(page.locator(".lead")).to_contain_text(f"It knows {classes} classes, and always predicts one of them: ")
        expect(page.locator(".lead")).to_contain_text(f", and class {classes - 1}.")
        upload(page, png("red"))
        expect(page.locator("#bars .predicted th")).to_have_text("class 0")


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_colour_scheme_with_enough_contrast(visit, scheme, dark):
    page = visit(color_scheme=scheme)
    page.locator("#samples button").first.click()
    expect(page.locator("#bars .predicted")).to_have_count(1)
    page.evaluate("document.getElementById('unsure').hidden = false")
    upload(page, b"not an image", content_type="text/plain")
    expect(page.get_by_role("alert")).not_to_be_empty()
    background = luminance(style(page, "body", "backgroundColor"))
    assert (background < 0.1) == dark
    for text in ("body", ".lead", "#dropzone .muted", "#error", "footer a"):
        behind = page.locator(text).evaluate(
            """each => {
                const background = () => getComputedStyle(each).backgroundColor;
                while (background() === 'rgba(0, 0, 0, 0)') each = each.parentElement;
                return background();
            }"""
        )
        assert contrast(style(page, text, "color"), behind) >= 4.5, text


def style(page, selector: str, name: str) -> str:
    return page.locator(selector).evaluate(f"each => getComputedStyle(each).{name}")


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)`."""
    values = np.array([float(each) for each in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("colour", "unsure"), [("red", False), ("grey", True)])
def test_the_page_says_when_a_prediction_is_unsure(page, colour, unsure):
    upload(page, png(colour))

    expect(page.locator("#bars .predicted")).to_have_count(1)
    assert prediction(page).startswith("Best guess: ") == unsure
    notice = page.locator("#unsure")
    expect(notice).to_be_visible(visible=unsure)
    if unsure:
        expect(notice).to_contain_text("less certain than for 95% of its validation images")
    expect(page.locator("#threshold-note")).to_contain_text(f"{100 * UNSURE_BELOW:.1f}% threshold")


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_page_works_below_a_path(visit, url, slash):
    """The proxy strips the path, and may redirect to the one with a slash at its end, or not."""

    def proxy(route):
        route.continue_(url=re.sub("/below/a/path/?", "/", route.request.url))

    page = visit(routes=[(re.compile("/below/a/path"), proxy)], address=f"{url}/below/a/path{slash}")
    expect(page.locator("#samples button")).to_have_count(10)
    upload(page, random_image(1))
    expect(page.locator("#bars .predicted")).to_have_count(1)
    assert page.locator("footer a").evaluate("each => each.href") == f"{url}/below/a/path/docs"


def test_the_page_waits_for_a_model(visit):
    errors = [{"status": 503, "json": {"error": "No model is loaded."}}]
    page = visit(routes=[("**/model", lambda route: route.fulfill(**errors.pop()) if errors else route.continue_())])
    notice = page.get_by_role("status").first
    expect(notice).to_contain_text("No model is loaded.")
    expect(page.locator("#model-summary")).to_contain_text("Test accuracy: 92.8% (95% confidence interval")
    expect(notice).to_be_empty()


def test_the_page_does_not_wait_forever_for_a_model(visit):
    held = []
    impatient = {"body": PAGE.replace("TIMEOUT = 30_000", "TIMEOUT = 2_000"), "content_type": "text/html"}
    model = lambda route: route.continue_() if held else held.append(route)  # noqa: E731
    page = visit(routes=[("**/model", model), (re.compile(r"/$"), lambda route: route.fulfill(**impatient))])
    expect(page.get_by_role("status").first).to_contain_text("This page retries automatically.")
    expect(page.locator("#samples button")).to_have_count(10, timeout=20_000)


def test_a_prediction_is_not_shown_in_the_rows_of_another_model(visit):
    """As where the service has changed its model, which cannot be loaded."""

    def of_another_model(route):
        page.unroute("**/model")
        page.route("**/model", lambda route: route.abort())
        response = route.fetch()
        content = response.json()
        content["model"]["version"] += 1
        content["predictions"][0]["probabilities"] = {"lynx": 1.0}
        route.fulfill(response=response, json=content)

    page = visit(routes=[("**/predict*", of_another_model)])
    expect(page.locator("#samples button")).to_have_count(10)
    upload(page, random_image(1))
    expect(page.get_by_role("alert")).to_contain_text("The service has changed its model.")
    assert prediction(page) == "No image yet"
    assert {text for text, _ in bars(page).values()} == {""}


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (lambda route: route.abort(), "The service cannot be reached."),
        (lambda route: route.fulfill(status=503, json={"error": "Busy; retry shortly."}), "Busy; retry shortly."),
        (lambda route: route.fulfill(status=502, body="<html>Bad gateway"), "returned an error (502)"),
    ],
)
def test_a_failed_request_shows_an_error(visit, handler, message):
    page = visit(routes=[("**/predict*", handler)])
    page.locator("#samples button").first.click()
    expect(page.get_by_role("alert")).to_contain_text(message)
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")


def test_a_slow_response_does_not_overwrite_a_newer_one(visit):
    held = []
    page = visit(routes=[("**/predict*", lambda route: route.continue_() if held else held.append(route))])
    expect(page.locator("#samples button")).to_have_count(10)  # before the model is loaded, no request is sent
    with page.expect_request("**/predict*") as slow:
        upload(page, random_image(1))
    with page.expect_event("requestfailed", lambda request: request == slow.value):
        upload(page, random_image(2), count=2)
    expect(page.locator("#details")).to_contain_text("Only the first of your 2 images was used.")
    expect(page.get_by_role("alert")).to_be_empty()
