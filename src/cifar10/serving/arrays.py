"""Pictures that come as numbers in JSON, for the routes that speak as other servers do."""

from typing import Annotated, Any

import numpy as np
from fastapi import HTTPException
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from cifar10.images import SIDE
from cifar10.serving.limits import Limits

# `fail_fast`, for a list of a million wrong values would otherwise be answered with a million errors.
Value = Annotated[float, Field(strict=True, ge=0, le=255, allow_inf_nan=False)]
Pixel = Annotated[list[Value], Field(min_length=3, max_length=3, fail_fast=True)]
Row = Annotated[list[Pixel], Field(min_length=SIDE, max_length=SIDE, fail_fast=True)]
Picture = Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE, fail_fast=True)]
Pictures = Annotated[list[Picture], Field(min_length=1, fail_fast=True)]
Flat = Annotated[list[Value], Field(fail_fast=True)]

_PICTURES: TypeAdapter[Any] = TypeAdapter(Pictures)
_FLAT: TypeAdapter[Any] = TypeAdapter(Flat)


def read_json(body: bytes, limits: Limits) -> dict[str, Any]:
    """The object of a body, whatever content type it claims: so do the servers that these routes stand for.

    Raises:
        HTTPException: 400, it is no JSON object, NaN and Infinity being no JSON; 413, it is too large.
    """
    if len(body) > limits.most_json_bytes:
        raise HTTPException(413, f"The body is too large: JSON may have up to {limits.most_json_bytes:,} bytes here.")
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise HTTPException(400, f"The body is no JSON: {error}.") from None
    if not isinstance(given, dict):
        raise HTTPException(400, "The body is JSON, but no object: it begins with { and ends with }.")
    return given


def images_of(values: Any, where: str, limits: Limits) -> np.ndarray:
    """Nested lists as float32 (n, 32, 32, 3).

    Args:
        values: of 0 to 255.
        where: they stand in the body, for the message.
        limits: on their number.

    Raises:
        HTTPException: 400, they are no pictures; 413, they are too many.
    """
    if isinstance(values, list):
        check_count(len(values), limits)
    return np.array(checked(_PICTURES, values, where), np.float32)


def flat_images_of(values: Any, count: int, where: str) -> np.ndarray:
    """The same of one long list that has `count` pictures."""
    numbers = checked(_FLAT, values, where)
    if len(numbers) != count * SIDE * SIDE * 3:
        raise HTTPException(
            400, f"{where} has {len(numbers)} values, but its shape [{count}, {SIDE}, {SIDE}, 3] says otherwise."
        )
    return np.array(numbers, np.float32).reshape(count, SIDE, SIDE, 3)


def check_count(count: int, limits: Limits) -> None:
    """Raise 413 for too many pictures."""
    if count > limits.most_pictures:
        raise HTTPException(413, f"{count} pictures are too many: a request may have up to {limits.most_pictures}.")


def checked(adapter: TypeAdapter[Any], value: Any, where: str) -> Any:
    """The value as the adapter takes it.

    Raises:
        HTTPException: 400, with what is wrong first, and where.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(filter(None, (where, *map(str, first["loc"]))))
        raise HTTPException(400, f"The body is wrong at {place}: {first['msg']}.") from None


def documented(schema: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI is told of a body that a route reads itself: that schema, and an example."""
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    content = {"application/json": {"schema": reference, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def schemas(*bodies: type[BaseModel]) -> dict[str, Any]:
    """The components that `documented` refers to."""
    _, definitions = models_json_schema(
        [(each, "validation") for each in bodies], ref_template="#/components/schemas/{model}"
    )
    return definitions["$defs"]
