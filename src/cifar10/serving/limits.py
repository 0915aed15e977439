"""Request limits, which bound the memory and the time that a request can use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits on requests; those beyond them get a 4xx response, or 503 if the service is busy."""

    max_body_bytes: int = 5_000_000  # per request, counted while the body arrives
    max_json_bytes: int = 2_000_000  # per JSON body; parsed JSON takes several times its size in memory
    max_images: int = 16  # per request
    max_pixels: int = 4_000_000  # per image
    timeout_seconds: float = 10.0  # for the body to arrive, and again for the prediction
    max_concurrent_requests: int = 64  # counts all but GET and HEAD requests without a body
    max_buffered_bytes: int = 40_000_000  # request bodies in memory, all requests together
