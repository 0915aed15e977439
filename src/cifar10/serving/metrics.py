"""Prometheus metrics: requests, their duration, the served model, and the process."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from cifar10.serving.repository import Model

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds

disable_created_metrics()  # a `_created` series per counter would double the output


class Metrics:
    """The metrics of one service, in a registry of their own.

    Requests are labelled with the template of their route: labels made from client input would be unbounded.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        labels = ("method", "route", "status")
        self._requests = Counter("cifar10_requests", "Number of responses sent.", labels, registry=self._registry)
        self._seconds = Histogram(
            "cifar10_request_seconds",
            "Seconds from the end of the request headers to the end of the response.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._model = Gauge("cifar10_model", "The served model.", ("name", "version"), registry=self._registry)
        self._in_progress = Gauge("cifar10_in_progress", "Number of requests in progress.", registry=self._registry)

    def request_started(self) -> None:
        """Count a request as in progress."""
        self._in_progress.inc()

    def request_finished(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record the status and the duration of a request."""
        self._in_progress.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self, model: Model | None) -> bytes:
        """Return all metrics in the Prometheus text format."""
        self._model.clear()
        if model:
            self._model.labels(model.name, str(model.version)).set(1)
        return generate_latest(self._registry)
