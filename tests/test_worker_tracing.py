"""Tracing begins where it is switched on, and says what it cannot read."""

import os
import subprocess
import sys

import pytest

from proxy.mistakes import ConfigurationError
from proxy.settings import Tracing
from proxy.worker_tracing import start_tracing


class Logger:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict]] = []

    def warning(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))

    info = warning


async def test_switched_off_there_is_none():
    assert start_tracing(Tracing(), lambda *_: None, Logger()) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ],
)
async def test_a_variable_that_cannot_be_used_refuses_the_configuration(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        start_tracing(Tracing(enabled=True), lambda *_: None, Logger())
    assert str(caught.value).startswith("environment: OTEL_…: cannot be used: ")


async def test_what_a_collector_s_headers_hold_is_not_told(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer sesame,x-other=1; open-sesame")
    with pytest.raises(ConfigurationError) as caught:
        start_tracing(Tracing(enabled=True), lambda *_: None, Logger())
    assert "eader" in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_variable_that_the_library_reads_as_it_is_loaded_refuses_the_configuration_too():
    start = "start_tracing(Tracing(enabled=True), print, None)"
    code = f"from proxy.settings import Tracing; from proxy.worker_tracing import start_tracing; {start}"
    environ = {**os.environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert "ConfigurationError: environment: OTEL_…: cannot be used: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in done.stderr


async def test_it_ends_at_once_with_nothing_to_send():
    logger = Logger()
    tracing = start_tracing(Tracing(enabled=True), lambda *_: None, logger)
    assert tracing is not None
    await tracing.close()
    assert logger.lines == []
