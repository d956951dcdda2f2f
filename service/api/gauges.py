"""Gauges that are read from the database when somebody asks, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

GAUGES: Mapping[str, tuple[str, str | None]] = {
    "timers_due": ("Timers that are due and have not fired, but those set aside", None),
    "timers_oldest_due_seconds": ("How long the oldest of them has been due", None),
    "timers_aside": ("Timers that failed, or over which a worker died, and are tried alone", None),
    "timers_dead": ("Timers that were given up: GET /v1/timers?state=dead", None),
    "clock_skew_seconds": ("How far this host's clock is ahead of the database's", None),
    "outbox_pending": ("Messages that wait to leave the house", "queue"),
    "outbox_age_seconds": ("How long the oldest of them has waited", "queue"),
    "notices_waiting": ("Notices that are in no digest yet", None),
    "check_offending": ("What the last nightly check found, by rule", "rule"),
    "calendar_year_missing": ("The year that a calendar lacks, from 1 December of the year before on", "calendar"),
    "pumps_held": ("Pumps whose clock gate holds the timers", None),
    "pump_heartbeat_age_seconds": ("How long ago each pump was heard of", "worker"),
    "pump_skew_seconds": ("How far each pump's host is ahead of the database", "worker"),
}
"""Name (after `jieban_`) -> what it says, and its label."""


def exposed(values: Mapping[str, Any]) -> bytes:
    """`values`: by name, a number or label -> number. A registry of its own: a worker that is gone leaves no series."""
    registry = CollectorRegistry()
    for name, (says, label) in GAUGES.items():
        gauge = Gauge(f"jieban_{name}", says, [label] if label else [], registry=registry)
        if label is None:
            gauge.set(values[name])
        else:
            for key, value in values[name].items():
                gauge.labels(key).set(value)
    return generate_latest(registry)
