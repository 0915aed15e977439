"""`POST /predict` with valid images, invalid images and invalid forms."""

import base64
import io
import re
import struct
import tempfile
import zlib

import numpy as np
import pytest
from PIL import Image

from cifar10.confidence import percent
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
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def animated(format):
    return encoded(RED, format, save_all=True, append_images=[Image.new("RGB", RED.size, (0, 0, 255))], duration=50)


def with_damaged_exif():
    content = bytearray(encoded(RED, "JPEG", quality=95, exif=exif()))
    start = content.index(b"Exif") + 6
    content[start : start + 20] = bytes(range(200, 220))
    return bytes(content)


def png_header(width, height):
    """A PNG that declares this size and has almost no pixel data."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 99)) + chunk(b"IEND", b"")
    )


VALID = {
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
    "damaged EXIF": with_damaged_exif(),
    "rotated": encoded(RED, "JPEG", quality=95, exif=exif()),
    "one pixel": png(size=(1, 1)),
    "narrow": png(size=(1500, 2)),
}


@pytest.mark.parametrize("name", VALID)
def test_every_format_gives_the_same_prediction(client, name):
    response = client.post("/predict", files=form(VALID[name]))
    assert response.status_code == 200, response.text
    (prediction,) = response.json()["predictions"]
    assert prediction["label"] == "airplane"
    assert prediction["probability"] == pytest.approx(calibrated(0.02 * 255), abs=0.02)


def calibrated(logit):
    """The calibrated probability of a class with this logit, if all other logits are 0."""
    power = np.exp(logit / TEMPERATURE)
    return power / (power + len(CLASS_NAMES) - 1)


def test_16_bit_grey_is_scaled_and_transparent_pixels_become_white(client):
    grey = encoded(Image.fromarray(np.full((40, 40), 32768, np.uint16)), "PNG")
    transparent = encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0)), "PNG")
    response = client.post("/predict?input_image=true", files=form(grey, transparent))
    inputs = [input_image(prediction) for prediction in response.json()["predictions"]]
    np.testing.assert_allclose(inputs[0], 127.5, atol=1)
    np.testing.assert_array_equal(inputs[1], 255)


def input_image(prediction):
    prefix, content = prediction["input_image"].split(",")
    assert prefix == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (32, 32)
        return np.asarray(image)


def test_predictions_are_in_the_order_of_the_images(client):
    order = ["green", "red", "blue", "red"]
    response = client.post("/predict", files=form(*(png(COLOURS[name][0]) for name in order))).json()
    assert response["model"] == {"name": "airbench94", "version": 1}
    assert response["milliseconds"] > 0
    assert [each["label"] for each in response["predictions"]] == [COLOURS[name][1] for name in order]
    for each in response["predictions"]:
        assert list(each["probabilities"]) == CLASS_NAMES
        assert sum(each["probabilities"].values()) == pytest.approx(1)
        assert each["probability"] == each["probabilities"][each["label"]] == max(each["probabilities"].values())
        assert "input_image" not in each


@pytest.mark.parametrize("red", [255, 160, 20])
def test_a_prediction_below_the_threshold_of_the_card_is_unsure(client, red):
    (prediction,) = client.post("/predict", files=form(png((red, 0, 0)))).json()["predictions"]
    assert prediction["probability"] == pytest.approx(calibrated(0.02 * red), abs=1e-5)
    assert prediction["unsure"] == (prediction["probability"] < UNSURE_BELOW)
    assert prediction["unsure"] == (red < 200)
    assert prediction["summary"] == f"{'Best guess: ' * (red < 200)}airplane, {percent(prediction['probability'])}"


def progressive_jpeg(repeats):
    """A progressive JPEG whose last scan is repeated."""
    content = encoded(Image.effect_noise((90, 90), 50), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * repeats + content[-2:]


INVALID = {
    "text": (b"This is not an image.", 415, "File 1 is not an image in a supported format"),
    "empty": (b"", 400, "File 1 is empty"),
    "truncated PNG": (encoded(Image.effect_noise((90, 90), 50), "PNG")[:-900], 400, "File 1 cannot be read"),
    "truncated JPEG": (encoded(Image.effect_noise((90, 90), 50), "JPEG")[:-900], 400, "File 1 cannot be read"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", 415, "File 1 is not an image"),
    "TIFF": (encoded(RED, "TIFF"), 415, "File 1 is not an image in a supported format"),
    "400 megapixels": (png_header(20_000, 20_000), 413, "File 1 has too many pixels"),
    "over 4 megapixels": (
        png_header(2001, 2000),
        413,
        r"File 1 has too many pixels \(2001 x 2000\).*limit is 4,000,000",
    ),
    "a progressive JPEG with 1,000 scans": (progressive_jpeg(1000), 400, "File 1 has more than 100 JPEG scans"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "File 1 is not an image"),
}


def test_a_photo_of_12_megapixels_is_accepted(client):
    response = client.post("/predict", files=form(encoded(Image.new("RGB", (4000, 3000), "red"), "JPEG", quality=95)))
    assert response.json()["predictions"][0]["label"] == "airplane"


def test_a_progressive_jpeg_is_accepted(client):
    assert client.post("/predict", files=form(progressive_jpeg(1))).status_code == 200


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_image_is_rejected(client, name):
    content, status, message = INVALID[name]
    assert_error(client.post("/predict", files=form(content)), status, message)


def assert_error(response, status, message):
    """Check the status, and that the body is one clear error message and nothing else."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert re.search(message, error), error
    assert error.endswith(".")
    assert "Traceback" not in error
    assert "<_io" not in error


def test_the_error_names_the_invalid_image(client):
    assert_error(client.post("/predict", files=form(png(), png(), b"no")), 415, "^File 3 is")


def test_file_names_and_content_types_are_ignored(client):
    files = [("images", ("../../etc/passwd\x00.txt", encoded(RED, "JPEG", quality=95), "text/plain"))]
    assert client.post("/predict", files=files).json()["predictions"][0]["label"] == "airplane"


FORM_TYPE = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + png() + b"\r\n"
TEXT_PART = b'--x\r\nContent-Disposition: form-data; name="comment"\r\n\r\nhello\r\n'
INVALID_FORMS = {
    "JSON": (b"{}", "application/json", 415, "multipart/form-data"),
    "no content type": (PART + b"--x--\r\n", None, 415, "multipart/form-data"),
    "no boundary": (PART + b"--x--\r\n", "multipart/form-data", 400, "form is invalid"),
    "another boundary": (PART + b"--x--\r\n", "multipart/form-data; boundary=y", 400, "form"),
    "truncated": (PART, FORM_TYPE, 400, "truncated"),
    "empty": (b"", FORM_TYPE, 400, "form"),
    "another field": (PART.replace(b"images", b"picture") + b"--x--\r\n", FORM_TYPE, 400, "no field images"),
    "text": (PART.replace(b'; filename="a"', b"") + b"--x--\r\n", FORM_TYPE, 400, "contains text"),
    "a part without a name": (PART.replace(b'name="images"; ', b"") + b"--x--\r\n", FORM_TYPE, 400, "form is invalid"),
    "17 images": (17 * PART + b"--x--\r\n", FORM_TYPE, 413, "^Too many images: a request is limited to 16"),
    "17 files of another field": (17 * PART.replace(b"images", b"a") + b"--x--\r\n", FORM_TYPE, 413, "limited to 16"),
    "17 text fields": (17 * TEXT_PART + b"--x--\r\n", FORM_TYPE, 400, "form is invalid"),
    "many headers": (b"--x\r\n" + b"a: b\r\n" * 100_000 + b"\r\n\r\n--x--\r\n", FORM_TYPE, 400, "form is invalid"),
}


@pytest.mark.parametrize("name", INVALID_FORMS)
def test_an_invalid_form_is_rejected(client, name):
    body, content_type, status, message = INVALID_FORMS[name]
    headers = {"content-type": content_type} if content_type else {}
    assert_error(client.post("/predict", data=body, headers=headers), status, message)


@pytest.mark.parametrize(
    "name", ["filename*=UTF-8''caf%C3%A9.png", "FileName* = utf-8''a", "filename=a; filename*=UTF-8''%20", "filename=a"]
)
def test_a_file_is_recognized_by_any_kind_of_file_name(client, name):
    """If a name is not in ASCII, old clients send `filename*` alone, as urllib3 before 1.25, and others send both."""
    body = PART.replace(b'filename="a"', name.encode()) + b"--x--\r\n"
    response = client.post("/predict", data=body, headers={"content-type": FORM_TYPE})
    assert response.json()["predictions"][0]["label"] == "airplane", response.text


@pytest.mark.parametrize("charset", ["hex", "undefined", "../../x", "a\tb", "utf-16", "%00"])
def test_the_charset_of_a_form_is_ignored(client, charset):
    content_type = f'multipart/form-data; charset="{charset}"; boundary=x'
    response = client.post("/predict", data=PART + b"--x--\r\n", headers={"content-type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize("boundary", [r'"x\"; charset=undefined; y=\""', r'"x\\"'])
def test_a_boundary_cannot_inject_a_charset(client, boundary):
    content_type = f"multipart/form-data; boundary={boundary}"
    response = client.post("/predict", data=PART + b"--x--\r\n", headers={"content-type": content_type})
    assert_error(response, 400, "boundary of the form must not")


def test_16_images_and_16_text_fields_are_accepted(client):
    assert len(client.post("/predict", files=form(*[png()] * 16)).json()["predictions"]) == 16
    body = 16 * (PART + TEXT_PART) + b"--x--\r\n"
    response = client.post("/predict", data=body, headers={"content-type": FORM_TYPE})
    assert len(response.json()["predictions"]) == 16


def test_uploaded_images_are_not_written_to_disk(client, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    image = encoded(Image.effect_noise((1000, 1000), 50), "BMP")
    assert client.post("/predict", files=form(image)).status_code == 200


def test_an_invalid_parameter_is_rejected(client):
    response = client.post("/predict?input_image=perhaps", files=form(png()))
    assert_error(response, 422, "parameter input_image is invalid")


def test_limits_can_be_changed(tmp_path):
    write_export(tmp_path)
    with serving(tmp_path, max_body_bytes=3000, max_images=2, max_pixels=100) as client:
        assert client.get("/model").json()["max_images"] == 2
        assert_error(client.post("/predict", files=form(*[png(size=(5, 5))] * 3)), 413, "limited to 2")
        assert_error(client.post("/predict", files=form(png(size=(11, 10)))), 413, "limit is 100 pixels")
        assert_error(client.post("/predict", files=form(bytes(3000))), 413, "limit is 3,000 bytes")
        assert client.post("/predict", files=form(png(size=(10, 10)))).status_code == 200
