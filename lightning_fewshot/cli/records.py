"""The record in a ``results.json``, checked before a table or a report is made of it."""

from __future__ import annotations

from typing import Any

SCHEMA = "lightning_fewshot/results/1"
SCORES_SCHEMA = "lightning_fewshot/tracking_scores/1"  # of `score`: one run a tracker
NEEDED = {"experiment": str, "model": str, "data": str, "protocol": dict, "metrics": dict}


def problem_of(record: Any) -> str | None:
    """Return why a record cannot be used; None: it can.

    >>> problem_of({"schema": "other/2"})
    "has the schema 'other/2'; this version reads 'lightning_fewshot/results/1': test the checkpoint anew"
    """
    if not isinstance(record, dict) or "schema" not in record:
        return "is no results file of this project: it has no schema"
    if record["schema"] != SCHEMA:
        return f"has the schema {str(record['schema'])[:80]!r}; this version reads {SCHEMA!r}: test the checkpoint anew"
    wrong = [key for key, kind in NEEDED.items() if not isinstance(record.get(key), kind)]
    if wrong:
        return f"lacks the field {wrong[0]!r}"
    if not isinstance(record["protocol"].get("test_set") or "", str):
        return "has a test_set that is no text"
    return _problem_of_numbers(record)


def problem_of_scores(record: dict[str, Any]) -> str | None:
    """Return why the record of ``score`` cannot be used."""
    trackers, protocol = record.get("trackers"), record.get("protocol")
    if not isinstance(protocol, dict) or not isinstance(protocol.get("benchmark"), str):
        return "lacks the field 'protocol' with the text 'benchmark'"
    if not isinstance(trackers, dict) or not all(isinstance(tracker, dict) for tracker in trackers.values()):
        return "lacks the field 'trackers'"
    for name, tracker in trackers.items():
        if not isinstance(tracker.get("metrics"), dict) or not _is_table(tracker.get("sequences") or {}):
            return f"has no 'metrics', or 'sequences' that hold no numbers, for {name}"
        if problem := _problem_of_numbers({"metrics": tracker["metrics"]}):
            return problem
    return None


def _problem_of_numbers(record: dict[str, Any]) -> str | None:
    for name, metric in record["metrics"].items():
        if not isinstance(metric, dict) or not _is_number(metric.get("value")) or not _is_interval(metric.get("ci95")):
            return f"has the metric {name!r} that holds no value with its interval"
    if not _is_table(record.get("per_episode") or {}):
        return "has a per_episode that holds no numbers by metric and episode"
    if not _is_curves(record.get("curves") or {}):
        return "has curves that are no lists of numbers"
    command = record.get("command") or ""
    words = command if isinstance(command, list) else [command]
    return None if all(isinstance(word, str) for word in words) else "has a command that is no text"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300)


def _is_interval(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(row, dict) and all(map(_is_number, row.values())) for row in value.values()
    )


def _is_curves(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(y, list) and None not in y and all(map(_is_number, y)) for y in value.values()
    )
