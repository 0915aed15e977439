"""What Prometheus is told: requests, seconds, the model, and the process itself."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from cifar10.serving.repository import Model

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds
CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # a line more for every line, which nobody reads


class Metrics:
    """A registry of its own. Routes are labelled by their templates: what a client makes up becomes no label."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        labels = ("method", "route", "status")
        self._requests = Counter("cifar10_requests", "Answers given.", labels, registry=self._registry)
        self._seconds = Histogram(
            "cifar10_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._model = Gauge("cifar10_model", "The model that serves.", ("name", "version"), registry=self._registry)
        self._in_progress = Gauge("cifar10_in_progress", "Requests being answered.", registry=self._registry)

    def begun(self) -> None:
        """A request has come."""
        self._in_progress.inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has its answer."""
        self._in_progress.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, model: Model | None) -> bytes:
        """All of it in Prometheus' format."""
        self._model.clear()
        if model:
            self._model.labels(model.name, str(model.version)).set(1)
        return generate_latest(self._registry)
