"""Declared once: names as Prometheus wants them, and the table that README shows."""

from __future__ import annotations

from pathlib import Path

from service import metrics

ROOT = Path(__file__).resolve().parents[2]


def test_every_metric_is_named_as_metrics_are() -> None:
    names = [spec.name for spec in metrics.SPECS]
    assert len(set(names)) == len(names)
    for spec in metrics.SPECS:
        assert spec.name.startswith("oodgate_")
        assert spec.name == spec.name.lower()
        assert spec.name.endswith("_total") == (spec.kind == "counter")
        assert spec.bounds is None or list(spec.bounds) == sorted(set(spec.bounds))
        assert spec.help.endswith(".")
        assert spec.unit


def test_a_unit_that_is_not_counted_is_in_the_name() -> None:
    for spec in metrics.SPECS:
        if spec.unit in ("seconds", "bytes"):
            assert spec.name.endswith(f"_{spec.unit}")


def test_only_gauges_are_summed_over_replicas() -> None:
    assert all(spec.gauge for spec in metrics.SPECS if spec.each_replica)


def test_readme_shows_the_table_of_them_all() -> None:
    """After a change: ``python -m service.metrics`` prints it."""
    assert metrics.table() in (ROOT / "README.md").read_text()


def test_the_table_has_a_row_for_each_metric() -> None:
    rows = [line.split("|") for line in metrics.table().splitlines()[2:]]
    assert [row[1].strip(" `") for row in rows] == [spec.name for spec in metrics.SPECS]
    (threshold,) = [row for row in rows if row[1] == f" `{metrics.REJECTION_THRESHOLD.name}` "]
    assert [cell.strip() for cell in threshold[2:5]] == ["gauge", "probability", "`model`"]
