"""What the service takes, so that no request can fill the memory or keep others waiting for long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Whatever goes beyond is answered with a 4xx, or with 503 where it is the service that is busy."""

    most_bytes: int = 5_000_000  # of a request's body, counted as they come
    most_json_bytes: int = 2_000_000  # of one that is JSON, whose values take many times its size in memory
    most_pictures: int = 16  # of a request
    most_pixels: int = 4_000_000  # of a picture
    seconds: float = 10.0  # for a body to arrive, and for an answer to be found
    most_waiting: int = 64  # requests with a body that are in progress at a time
    most_held_bytes: int = 40_000_000  # of all their bodies together
