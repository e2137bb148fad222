from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.exposition import merge_pages
from services.gateway.meter import agent_label, path_label


def page(count: int) -> str:
    registry = CollectorRegistry()
    Counter("things", "Things with a \\ and\nlines", ("kind",), registry=registry).labels('a"b{c}').inc(count)
    Gauge("level", "Level", registry=registry).set(count)
    Histogram("seconds", "Time", registry=registry, buckets=(1, 2)).observe(count)
    return generate_latest(registry).decode()


def test_merged_pages_are_a_page() -> None:
    merged = merge_pages([("ingest", "i-1", page(1)), ("ingest", "i-2", page(2)), ("query", 'q"\\', page(3))])
    families = {family.name: family for family in text_string_to_metric_families(merged)}
    assert {"things", "level", "seconds"} <= set(families)
    levels = {(s.labels["service"], s.labels["instance"]): s.value for s in families["level"].samples}
    assert levels == {("ingest", "i-1"): 1, ("ingest", "i-2"): 2, ("query", 'q"\\'): 3}
    assert {s.labels["kind"] for s in families["things"].samples if s.name == "things_total"} == {'a"b{c}'}
    assert families["seconds"].type == "histogram"


def test_a_family_stands_together_and_is_described_once() -> None:
    merged = merge_pages([("a", "1", page(1)), ("a", "2", page(2))])
    names = [line.partition("{")[0] for line in merged.splitlines() if not line.startswith("#")]
    assert names.index("level") + 1 == len(names) - 1 - names[::-1].index("level")
    assert merged.count("# TYPE level gauge") == 1


def test_an_empty_page_adds_nothing() -> None:
    assert merge_pages([("a", "1", ""), ("a", "2", "# a comment\n\nx 1\n")]) == 'x{service="a",instance="2"} 1\n'
    assert merge_pages([("a", "1", "x{} 1")]) == 'x{service="a",instance="1"} 1\n'


def test_labels_of_paths_are_bounded() -> None:
    assert path_label("/api/v2/buckets/0123456789abcdef/members") == "/api/v2/buckets/:id/members"
    assert path_label("/write/") == "/write"
    assert path_label("/") == ":other"
    assert path_label("/evil/one") == ":other"
    assert path_label("/api/v2/" + "/".join("abcdefghij")) == "/api/v2/:id/:id/:id/:id/:id"


def test_labels_of_agents_are_bounded() -> None:
    assert agent_label("Telegraf/1.2 Go/1.19") == "Telegraf"
    assert agent_label("") == "unknown"
    assert agent_label("x" * 1000) == "other"
