"""Validate images that are sent as JSON arrays, for the TensorFlow Serving and Open Inference routes."""

import math
from typing import Annotated, Any

import numpy as np
from fastapi import HTTPException
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from cifar10.images import IMAGE_SIZE
from cifar10.serving.limits import Limits

# `fail_fast`, because a list of a million invalid values would otherwise produce a million errors.
Value = Annotated[float, Field(strict=True, ge=0, le=255, allow_inf_nan=False)]
Pixel = Annotated[list[Value], Field(min_length=3, max_length=3, fail_fast=True)]
Row = Annotated[list[Pixel], Field(min_length=IMAGE_SIZE, max_length=IMAGE_SIZE, fail_fast=True)]
ImageArray = Annotated[list[Row], Field(min_length=IMAGE_SIZE, max_length=IMAGE_SIZE, fail_fast=True)]
ImageBatch = Annotated[list[ImageArray], Field(min_length=1, fail_fast=True)]
FlatArray = Annotated[list[Value], Field(fail_fast=True)]

_IMAGE_BATCH: TypeAdapter[Any] = TypeAdapter(ImageBatch)
_FLAT_ARRAY: TypeAdapter[Any] = TypeAdapter(FlatArray)


def parse_json(body: bytes, limits: Limits) -> dict[str, Any]:
    """Parse a JSON object; like the servers whose protocols these routes implement, ignore the content type.

    Raises:
        HTTPException: 400 if it is not a JSON object (NaN and Infinity are not valid JSON), 413 if it is too large.
    """
    if len(body) > limits.max_json_bytes:
        raise HTTPException(413, f"The body is too large: JSON is limited to {limits.max_json_bytes:,} bytes.")
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise HTTPException(400, f"The body is not valid JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise HTTPException(400, "The body is not a JSON object, which begins with { and ends with }.")
    return parsed


def parse_images(values: Any, location: str, limits: Limits) -> np.ndarray:
    """Convert nested lists to a float32 array of shape (n, 32, 32, 3).

    Args:
        values: n x 32 x 32 x 3 numbers from 0 to 255.
        location: their place in the body, for the error message.
        limits: limits the number of images.

    Raises:
        HTTPException: 400 if the values are not images, 413 if there are too many images.
    """
    if isinstance(values, list) and values:
        _check_shape(values, location)
        check_image_count(len(values), limits)
    return np.array(validate(_IMAGE_BATCH, values, location), np.float32)


def parse_flat_images(values: Any, count: int, location: str) -> np.ndarray:
    """Convert one flat list of `count` images to a float32 array of shape (n, 32, 32, 3)."""
    numbers = validate(_FLAT_ARRAY, values, location)
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    if len(numbers) != math.prod(shape):
        raise HTTPException(400, f"{location} has {len(numbers)} values, which does not match its shape {list(shape)}.")
    return np.array(numbers, np.float32).reshape(shape)


def _check_shape(values: list[Any], location: str) -> None:
    """Raise a 400 HTTPException if these lists, judged by the first value of each, are not images in a list."""
    shape: list[int] = []
    first: Any = values
    while isinstance(first, list) and len(shape) <= 4:
        shape.append(len(first))
        first = first[0] if first else None
    image = [IMAGE_SIZE, IMAGE_SIZE, 3]
    if shape[1:] != image:
        advice = "; put the image in a list" if shape == image else ""
        expected = f"the model expects [n, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]"
        raise HTTPException(400, f"The body is invalid at {location}: its shape is {shape}, {expected}{advice}.")


def check_image_count(count: int, limits: Limits) -> None:
    """Raise a 413 HTTPException if there are too many images."""
    if count > limits.max_images:
        raise HTTPException(413, f"Too many images ({count}): a request is limited to {limits.max_images}.")


def validate(adapter: TypeAdapter[Any], value: Any, location: str) -> Any:
    """Validate a value with a pydantic type adapter.

    Raises:
        HTTPException: 400 with the first error and its location.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(filter(None, (location, *map(str, first["loc"]))))
        raise HTTPException(400, f"The body is invalid at {place}: {first['msg']}.") from None


def openapi_request_body(schema: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the route parses itself."""
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    content = {"application/json": {"schema": reference, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def openapi_schemas(*models: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI component schemas of these models, by name."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return definitions["$defs"]
