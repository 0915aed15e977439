"""`POST /predict`: pictures as people have them, and what is none."""

import base64
import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.serving.conftest import (
    CLASS_NAMES,
    COLOURS,
    TEMPERATURE,
    UNSURE_BELOW,
    encoded,
    form,
    png,
    serving,
    write_export,
)

RED = Image.new("RGB", (64, 48), (255, 0, 0))


def exif(orientation=6):
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def animated(format):
    return encoded(RED, format, save_all=True, append_images=[Image.new("RGB", RED.size, (0, 0, 255))], duration=50)


def with_corrupt_exif():
    content = bytearray(encoded(RED, "JPEG", quality=95, exif=exif()))
    start = content.index(b"Exif") + 6
    content[start : start + 20] = bytes(range(200, 220))
    return bytes(content)


def png_of(width, height):
    """The head of a PNG of that size, and hardly a pixel."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0" * 99)) + chunk(b"IEND", b"")


GOOD = {
    "PNG": encoded(RED, "PNG"),
    "JPEG": encoded(RED, "JPEG", quality=95),
    "WebP": encoded(RED, "WEBP", lossless=True),
    "GIF": encoded(RED, "GIF"),
    "BMP": encoded(RED, "BMP"),
    "animated GIF": animated("GIF"),
    "animated WebP": animated("WEBP"),
    "animated PNG": animated("PNG"),
    "CMYK": encoded(RED.convert("CMYK"), "JPEG", quality=95),
    "palette": encoded(RED.convert("P"), "PNG"),
    "alpha": encoded(RED.convert("RGBA"), "PNG"),
    "corrupt EXIF": with_corrupt_exif(),
    "turned": encoded(RED, "JPEG", quality=95, exif=exif()),
    "one pixel": png(size=(1, 1)),
    "a line": png(size=(1500, 2)),
}


@pytest.mark.parametrize("name", GOOD)
def test_red_is_red_in_every_format(client, name):
    answer = client.post("/predict", files=form(GOOD[name]))
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert prediction["answer"] == "airplane"
    assert prediction["probability"] == pytest.approx(sure(0.02 * 255), abs=0.02)


def sure(logit):
    """Probability of the one class with that logit, the others having none."""
    power = np.exp(logit / TEMPERATURE)
    return power / (power + len(CLASS_NAMES) - 1)


def test_grey_of_16_bits_and_clear_on_white_are_seen_as_they_are(client):
    grey = encoded(Image.fromarray(np.full((40, 40), 32768, np.uint16)), "PNG")
    clear = encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0)), "PNG")
    answer = client.post("/predict?seen=true", files=form(grey, clear))
    seen = [seen_of(prediction) for prediction in answer.json()["predictions"]]
    np.testing.assert_allclose(seen[0], 127.5, atol=1)
    np.testing.assert_array_equal(seen[1], 255)


def seen_of(prediction):
    head, content = prediction["seen"].split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (32, 32)
        return np.asarray(picture)


def test_several_pictures_are_answered_in_their_order(client):
    order = ["green", "red", "blue", "red"]
    answer = client.post("/predict", files=form(*(png(COLOURS[name][0]) for name in order))).json()
    assert answer["model"] == {"name": "airbench94", "version": 1}
    assert answer["milliseconds"] > 0
    assert [each["answer"] for each in answer["predictions"]] == [COLOURS[name][1] for name in order]
    for each in answer["predictions"]:
        assert list(each["probabilities"]) == CLASS_NAMES
        assert sum(each["probabilities"].values()) == pytest.approx(1)
        assert each["probability"] == each["probabilities"][each["answer"]] == max(each["probabilities"].values())
        assert "seen" not in each


@pytest.mark.parametrize("red", [255, 160, 20])
def test_unsure_below_the_bound_of_the_card(client, red):
    (prediction,) = client.post("/predict", files=form(png((red, 0, 0)))).json()["predictions"]
    assert prediction["probability"] == pytest.approx(sure(0.02 * red), abs=1e-5)
    assert prediction["unsure"] == (prediction["probability"] < UNSURE_BELOW)
    assert prediction["unsure"] == (red < 200)


def scans_of(count):
    """A progressive JPEG whose last scan comes so often."""
    content = encoded(Image.effect_noise((90, 90), 50), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + content[-2:]


BAD = {
    "text": (b"This is no picture.", 415, "Picture 1 is no picture of a format that can be read here"),
    "empty": (b"", 400, "Picture 1 is empty"),
    "half a PNG": (encoded(Image.effect_noise((90, 90), 50), "PNG")[:-900], 400, "Picture 1 cannot be read"),
    "half a JPEG": (encoded(Image.effect_noise((90, 90), 50), "JPEG")[:-900], 400, "Picture 1 cannot be read"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", 415, "Picture 1 is no picture"),
    "TIFF": (encoded(RED, "TIFF"), 415, "Picture 1 is no picture of a format"),
    "400 megapixels": (png_of(20_000, 20_000), 413, "Picture 1 has .*too many"),
    "more than 4 megapixels": (png_of(2001, 2000), 413, "Picture 1 has 2001 x 2000 pixels.*up to 4,000,000"),
    "a progressive JPEG of a thousand scans": (scans_of(1000), 400, "Picture 1 has more than 100 scans"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "Picture 1 is no picture"),
}


def test_a_progressive_jpeg_is_answered(client):
    assert client.post("/predict", files=form(scans_of(1))).status_code == 200


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_told(client, name):
    content, status, message = BAD[name]
    refused(client.post("/predict", files=form(content)), status, message)


def refused(answer, status, message):
    """One clear sentence, and nothing beside it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    sentence = answer.json()["error"]
    assert re.search(message, sentence), sentence
    assert sentence.endswith(".")
    assert "Traceback" not in sentence
    assert "<_io" not in sentence


def test_the_picture_that_is_wrong_is_named(client):
    refused(client.post("/predict", files=form(png(), png(), b"no")), 415, "^Picture 3 is")


def test_the_name_and_type_of_a_file_say_nothing(client):
    files = [("images", ("../../etc/passwd\x00.txt", encoded(RED, "JPEG", quality=95), "text/plain"))]
    assert client.post("/predict", files=files).json()["predictions"][0]["answer"] == "airplane"


BOUNDARY = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + png() + b"\r\n"
FORMS = {
    "no form": (b"{}", "application/json", 415, "multipart/form-data"),
    "no type": (PART + b"--x--\r\n", None, 415, "multipart/form-data"),
    "no boundary": (PART + b"--x--\r\n", "multipart/form-data", 400, "form cannot be read"),
    "another boundary": (PART + b"--x--\r\n", "multipart/form-data; boundary=y", 400, "form"),
    "cut off": (PART, BOUNDARY, 400, "cut off"),
    "empty": (b"", BOUNDARY, 400, "form"),
    "another field": (PART.replace(b"images", b"picture") + b"--x--\r\n", BOUNDARY, 400, "no field images"),
    "text": (PART.replace(b'; filename="a"', b"") + b"--x--\r\n", BOUNDARY, 400, "is text"),
    "a part without a name": (PART.replace(b'name="images"; ', b"") + b"--x--\r\n", BOUNDARY, 400, "form cannot be"),
    "17 pictures": (17 * PART + b"--x--\r\n", BOUNDARY, 413, "up to 16"),
    "many heads": (
        b"--x\r\n" + b"a: b\r\n" * 100_000 + b"\r\n\r\n--x--\r\n",
        BOUNDARY,
        400,
        "form cannot be read",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_form_of_pictures_is_told(client, name):
    body, kind, status, message = FORMS[name]
    refused(client.post("/predict", data=body, headers={"content-type": kind} if kind else {}), status, message)


@pytest.mark.parametrize("charset", ["hex", "undefined", "../../x", "a\tb", "utf-16", "%00"])
def test_a_charset_of_the_form_is_not_looked_up(client, charset):
    kind = f'multipart/form-data; charset="{charset}"; boundary=x'
    assert client.post("/predict", data=PART + b"--x--\r\n", headers={"content-type": kind}).status_code == 200


@pytest.mark.parametrize("boundary", [r'"x\"; charset=undefined; y=\""', r'"x\\"'])
def test_a_boundary_brings_no_charset_along(client, boundary):
    kind = f"multipart/form-data; boundary={boundary}"
    refused(client.post("/predict", data=PART + b"--x--\r\n", headers={"content-type": kind}), 400, "boundary has")


def test_sixteen_pictures_are_taken(client):
    assert len(client.post("/predict", files=form(*[png()] * 16)).json()["predictions"]) == 16


def test_a_wrong_parameter_is_told(client):
    refused(client.post("/predict?seen=perhaps", files=form(png())), 422, "parameter seen is wrong")


def test_limits_are_those_that_were_asked_for(tmp_path):
    write_export(tmp_path)
    with serving(tmp_path, most_bytes=3000, most_pictures=2, most_pixels=100) as client:
        assert client.get("/model").json()["most_pictures"] == 2
        refused(client.post("/predict", files=form(*[png(size=(5, 5))] * 3)), 413, "up to 2")
        refused(client.post("/predict", files=form(png(size=(11, 10)))), 413, "up to 100")
        refused(client.post("/predict", files=form(bytes(3000))), 413, "up to 3,000 bytes")
        assert client.post("/predict", files=form(png(size=(10, 10)))).status_code == 200
