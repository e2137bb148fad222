"""The cache that is told: what a change dropped never comes back from an answer read before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.cache import ToldCache


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def fed_cache(max_entries: int = 10) -> tuple[ToldCache[str], Clock]:
    clock = Clock()
    cache: ToldCache[str] = ToldCache(max_entries, clock)
    cache.set_fed(True)
    return cache, clock


def test_a_change_drops_what_hangs_on_its_tag_and_nothing_else() -> None:
    cache, _ = fed_cache()
    cache.put("a", "1", ["user:1"], 1)
    cache.put("b", "2", ["user:2"], 1)
    cache.drop(["user:1"], 2)
    assert cache.find("a") is None
    assert cache.find("b") == "2"


def test_an_answer_read_before_the_change_is_refused_and_one_after_it_is_kept() -> None:
    cache, _ = fed_cache()
    cache.drop(["user:1"], 5)
    cache.put("a", "old", ["user:1"], 4)
    assert cache.find("a") is None
    cache.put("a", "new", ["user:1"], 5)
    assert cache.find("a") == "new"


def test_after_a_gap_nothing_from_before_it_counts() -> None:
    cache, _ = fed_cache()
    cache.put("a", "1", [], 3)
    cache.drop_all(7)
    assert cache.find("a") is None
    cache.put("a", "late", [], 6)
    assert cache.find("a") is None


def test_a_change_known_ahead_of_the_feed_stays_known_when_the_feed_tells_of_older_ones_or_begins_anew() -> None:
    cache, _ = fed_cache()
    cache.drop(["user:1"], 9)
    cache.drop(["user:1"], 7)
    cache.drop_all(8)
    cache.put("a", "old", ["user:1"], 8)
    assert cache.find("a") is None
    assert cache.is_superseded(["user:1", "auth:1"], 8)
    assert not cache.is_superseded(["user:1", "auth:1"], 9)


def test_without_its_feed_an_entry_lives_five_seconds() -> None:
    cache, clock = fed_cache()
    cache.put("a", "1", [], 1)
    clock.now_s = 100.0
    assert cache.find("a") == "1"
    cache.set_fed(False)
    clock.now_s = 104.9
    assert cache.find("a") == "1"
    clock.now_s = 105.1
    assert cache.find("a") is None


def test_the_least_recently_used_goes_first() -> None:
    cache, _ = fed_cache(max_entries=2)
    cache.put("a", "1", [], 1)
    cache.put("b", "2", [], 1)
    assert cache.find("a") == "1"
    cache.put("c", "3", [], 1)
    assert cache.find("b") is None
    assert len(cache) == 2


@given(st.lists(st.tuples(st.sampled_from("pdf"), st.integers(0, 3), st.integers(1, 40)), max_size=60))
def test_what_is_found_is_never_older_than_the_last_drop_of_its_tag(steps: list[tuple[str, int, int]]) -> None:
    cache, _ = fed_cache(max_entries=3)
    dropped: dict[int, int] = {}
    for step, tag, number in steps:
        if step == "p":
            cache.put(tag, str(number), [f"t{tag}"], number)
        elif step == "d":
            dropped[tag] = max(dropped.get(tag, 0), number)
            cache.drop([f"t{tag}"], dropped[tag])
        found = cache.find(tag)
        assert found is None or int(found) >= dropped.get(tag, 0)
