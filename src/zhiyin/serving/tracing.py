"""Spans of requests and their stages for OpenTelemetry, an extra; nothing is done where nobody asks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zhiyin import __version__
from zhiyin.domain.errors import ConfigError
from zhiyin.domain.extras import from_extra

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Standard variables; one of them set means that traces are wanted."""
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_NO_EXPORTERS = {"none"}
_NANOSECONDS = 1_000_000_000


class RequestSpan:
    """The span of one request.

    Attributes:
        trace_id: 32 hexadecimal digits.
        traceparent: The span as a header after W3C Trace Context.
    """

    __slots__ = ("_span", "trace_id", "traceparent")

    def __init__(self, span: Span) -> None:
        self._span = span
        here = span.get_span_context()
        self.trace_id = f"{here.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{here.span_id:016x}-{int(here.trace_flags):02x}"

    def end(self, route: str, method: str, status: int) -> None:
        """Name the span after its route and end it; 5xx is an error of the service."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

        self._span.update_name(f"{method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Tracer:
    """Makes spans: one a request, below it one a stage.

    Args:
        provider: Of OpenTelemetry; `close` shuts it down.
    """

    def __init__(self, provider: TracerProvider) -> None:
        with from_extra("telemetry"):
            from opentelemetry import context, trace  # noqa: PLC0415
            from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
                TraceContextTextMapPropagator,
            )
        self._provider = provider
        self._tracer = provider.get_tracer("zhiyin", __version__)
        self._context = context
        self._trace = trace
        self._w3c = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[RequestSpan]:
        """Begin the span of a request, below the one its header ``traceparent`` names.

        It is the current span until the block ends; `RequestSpan.end` ends it.
        """
        given = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
        span = self._tracer.start_span(
            method,
            context=self._w3c.extract(given, context=self._context.Context()),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method},
        )
        token = self._context.attach(self._trace.set_span_in_context(span))
        try:
            yield RequestSpan(span)
        finally:
            self._context.detach(token)
            if span.is_recording():  # Nobody ended it: what answers was cancelled.
                span.end()

    def here(self) -> Context:
        """Return the current place, to be given to `stage` from another thread."""
        return self._context.get_current()

    def stage(
        self, name: str, seconds: float, here: Context | None = None, *, ended: int | None = None
    ) -> None:
        """Add the span of a stage.

        Args:
            name: ``gate``, ``queue``, ``history``, ``rank``, ``commit``, ….
            seconds: How long it took.
            here: Where it belongs; the current place otherwise. A stage outside of any request makes none.
            ended: When it ended, nanoseconds since 1970; at this moment otherwise.
        """
        here = self._context.get_current() if here is None else here
        if not self._trace.get_current_span(here).get_span_context().is_valid:
            return
        end = time.time_ns() if ended is None else ended
        start = end - int(seconds * _NANOSECONDS)
        self._tracer.start_span(name, context=here, start_time=start).end(end)

    def headers(self) -> dict[str, str]:
        """Return the headers with which a call to another service takes part in the current trace."""
        headers: dict[str, str] = {}
        self._w3c.inject(headers)
        return headers

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


class BatchSpans:
    """The stages of a batch, as spans of each request that was computed in it.

    Args:
        tracer: Makes them.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self._of_thread = threading.local()

    def observe(self, stage: str, seconds: float) -> None:
        """Note a stage that ended at this moment; outside of a batch nobody is told."""
        noted = getattr(self._of_thread, "noted", None)
        if noted is not None:
            noted.append((stage, seconds, time.time_ns()))

    @contextmanager
    def of(self, places: Sequence[Context | None]) -> Iterator[None]:
        """Compute a batch in this thread.

        Args:
            places: For each request where it belongs, as `Tracer.here` said.
        """
        noted: list[tuple[str, float, int]] = []
        self._of_thread.noted = noted
        try:
            yield
        finally:
            self._of_thread.noted = None
            for here in places:
                for stage, seconds, ended in noted:
                    self.tracer.stage(stage, seconds, here, ended=ended)


def tracer_from_environment(environment: Mapping[str, str] | None = None) -> Tracer | None:
    """Return a tracer when the standard variables of OpenTelemetry ask for one, else None.

    Traces are wanted when one of `ENDPOINTS` is set, OTEL_SDK_DISABLED is not ``true`` and
    OTEL_TRACES_EXPORTER is not ``none``. They go out over HTTP in the background; the exporter reads the
    other variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_BSP_…) itself.

    Raises:
        MissingExtra: when traces are wanted and the packages of the extra ``telemetry`` are not installed.
        ConfigError: when another protocol than HTTP is asked for.
    """
    given = os.environ if environment is None else environment
    if not any(given.get(name) for name in ENDPOINTS) or _is_off(given):
        return None
    protocol = next((given[name] for name in _PROTOCOLS if given.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise ConfigError(
            f"Traces cannot be sent by '{protocol}'.",
            possible="The protocol is http/protobuf.",
            remedy="Unset OTEL_EXPORTER_OTLP_PROTOCOL and name the HTTP port of the collector, often 4318.",
        )
    return Tracer(_exporting_provider(given))


def _is_off(given: Mapping[str, str]) -> bool:
    is_disabled = given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return is_disabled or given.get("OTEL_TRACES_EXPORTER", "").strip().lower() in _NO_EXPORTERS


def _exporting_provider(given: Mapping[str, str]) -> TracerProvider:
    with from_extra("telemetry"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    said: dict[str, Any] = {"service.version": __version__}
    if not given.get("OTEL_SERVICE_NAME") and "service.name=" not in given.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        said["service.name"] = "zhiyin"
    provider = TracerProvider(resource=Resource.create(said), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
