from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.fair import FairQueue


def test_organizations_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(5):
        queue.push("flood", f"f{number}")
    queue.push("calm", "c0")
    assert queue.take(3) == ["f0", "c0", "f1"]
    assert queue.take(9) == ["f2", "f3", "f4"]
    assert len(queue) == 0


def test_bytes_bound_what_is_taken() -> None:
    queue: FairQueue[bytes] = FairQueue()
    for size in (4, 4, 4):
        queue.push("a", b"x" * size)
    assert len(queue.take(9, 8, len)) == 2
    queue.push("a", b"x" * 100)
    assert [len(item) for item in queue.take(9, 8, len)] == [4]
    assert [len(item) for item in queue.take(9, 8, len)] == [100]


def test_front_goes_before_the_others_of_its_organization() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("a", 2)
    queue.push("a", 1, front=True)
    assert queue.take(2) == [1, 2]


def test_what_is_removed_is_not_taken() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(6):
        queue.push("ab"[number % 2], number)
    assert sorted(queue.remove(lambda number: number > 2)) == [3, 4, 5]
    assert len(queue) == 3
    assert sorted(queue.take(9)) == [0, 1, 2]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))), st.integers(1, 5), st.integers(0, 20))
def test_everything_comes_out_once_and_in_order_for_each_organization(
    pushed: list[tuple[str, int]], items: int, most: int
) -> None:
    queue: FairQueue[tuple[str, int, int]] = FairQueue()
    for position, (org, size) in enumerate(pushed):
        queue.push(org, (org, size, position))
    taken = []
    while len(queue):
        some = queue.take(items, most, lambda item: item[1])
        assert 1 <= len(some) <= items
        assert len(some) == 1 or sum(size for _, size, _ in some) <= most
        taken += some
    assert sorted(position for _, _, position in taken) == list(range(len(pushed)))
    for org in "abc":
        positions = [position for name, _, position in taken if name == org]
        assert positions == sorted(positions)
