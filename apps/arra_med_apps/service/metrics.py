"""What can be measured of a running app, for Prometheus. No label holds anything a user wrote."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The app's own registry, so that two apps in one process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("arra_med_requests", "Requests", ["kind", "status"], registry=self._registry)
        self.seconds = Histogram("arra_med_request_seconds", "Seconds of a request", registry=self._registry)
        self.runs = Counter(
            "arra_med_runs", "Runs of the model, by how they ended", ["outcome"], registry=self._registry
        )
        self.images = Counter(
            "arra_med_images", "Images drawn, those that a stop left half-made included", registry=self._registry
        )
        self.run_seconds = Histogram(
            "arra_med_run_seconds", "Seconds of a run, waiting included", registry=self._registry,
            buckets=(0.5, 1, 2, 5, 10, 20, 60, 120, 300),
        )  # fmt: skip
        self.in_line = Gauge("arra_med_in_line", "Runs at work or waiting", registry=self._registry)
        self.refused_files = Counter("arra_med_refused_files", "Requests for another's file", registry=self._registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
