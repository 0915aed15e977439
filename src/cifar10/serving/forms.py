"""Read uploaded images from a multipart/form-data request."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import HTTPException, Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from cifar10.serving.limits import Limits

CHUNK_BYTES = 65536
IMAGES_FIELD = "images"
EXTENDED_FILENAME = re.compile(rb";\s*filename\*\s*=", re.IGNORECASE)
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # Pillow's names
OPENAPI_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [IMAGES_FIELD],
                    "properties": {
                        IMAGES_FIELD: {
                            "type": "array",
                            "description": (
                                f"Images in these formats: {', '.join(IMAGE_FORMATS)}. Repeat the field to send "
                                "several. GET /model says how many, and of how many pixels."
                            ),
                            "items": {"type": "string", "format": "binary"},
                            "minItems": 1,
                        }
                    },
                }
            }
        },
    }
}


class _ImageFormParser(MultiPartParser):
    """Keeps uploaded files in memory, limits their number, and notices a truncated form."""

    spool_max_size = 0  # never spool to disk; the middleware limits the size of the body

    def __init__(self, headers: Headers, chunks: AsyncGenerator[bytes, None], max_images: int) -> None:
        # `on_part_end` limits the number of files: the parser's own error could only be recognized by its text.
        super().__init__(headers, chunks, max_files=math.inf, max_fields=max_images)
        self.complete = False
        self._max_images = max_images
        self._file_count = 0

    def on_headers_finished(self) -> None:
        """Recognize a file by `filename*` alone, too: some clients send only that if the name is not in ASCII."""
        disposition = self._current_part.content_disposition
        self._current_part.content_disposition = disposition and EXTENDED_FILENAME.sub(b"; filename=", disposition)
        super().on_headers_finished()

    def on_part_end(self) -> None:
        """Count the files.

        Raises:
            HTTPException: 413 if there are too many.
        """
        super().on_part_end()
        _, value = self.items[-1]
        self._file_count += isinstance(value, UploadFile)
        if self._file_count > self._max_images:
            raise HTTPException(413, f"Too many images: a request is limited to {self._max_images}.")

    def on_end(self) -> None:
        """Remember that the final boundary was found."""
        super().on_end()
        self.complete = True


async def read_uploaded_images(request: Request, limits: Limits) -> list[bytes]:
    """Return the content of each file in the form field `images`.

    Raises:
        HTTPException: 415 if the body is not a form, 400 if the form is invalid or has no images, 413 if it has too
            many images.
    """
    parser = _ImageFormParser(_multipart_headers(request), _chunks(request), limits.max_images)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"The form is invalid: {error.message}") from None
    if not parser.complete:
        raise HTTPException(400, "The form is truncated: its final boundary is missing.")
    images = form.getlist(IMAGES_FIELD)
    if not images:
        raise HTTPException(400, f"The form has no field {IMAGES_FIELD}; send at least one image in it.")
    contents = [image.file.read() for image in images if isinstance(image, UploadFile)]
    if len(contents) != len(images):
        raise HTTPException(400, f"The form field {IMAGES_FIELD} contains text; send a file with a file name.")
    return contents


def _multipart_headers(request: Request) -> Headers:
    """Return a content type with the boundary alone: the parser would look up a charset among Python's codecs."""
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        raise HTTPException(415, f"Send the images as multipart/form-data, in the field {IMAGES_FIELD}.")
    boundary = options.get(b"boundary", b"").decode("latin-1")
    if '"' in boundary or "\\" in boundary:  # could close the quotes below and add another option
        raise HTTPException(400, "The boundary of the form must not contain quotation marks or backslashes.")
    return Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})


async def _chunks(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the body in small chunks and let other tasks run in between: a hostile form takes a second to parse."""
    async for data in request.stream():
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]
            await asyncio.sleep(0)
