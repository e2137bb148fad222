"""Memory is given back when more is held than the budget explains, and not again and again."""

from __future__ import annotations

from services.query.control.memory import RETRY_LOOKS, SLACK_BYTES, Trimmer, resident_bytes


class Process:
    """A process whose memory is what the test says."""

    def __init__(self) -> None:
        self.used = 0
        self.resident = 100 << 20
        self.stays = 0
        self.trims = 0

    def trim(self) -> None:
        self.trims += 1
        self.resident = self.stays


async def test_what_the_budget_does_not_explain_is_given_back() -> None:
    process = Process()
    trimmer = Trimmer(lambda: process.used, lambda: process.resident, process.trim)
    process.used, process.resident = 200 << 20, 300 << 20
    assert not await trimmer.look()
    process.used = 0
    process.stays = 120 << 20
    assert await trimmer.look()
    assert process.trims == 1


async def test_what_can_not_be_given_back_is_tried_again_after_a_while() -> None:
    process = Process()
    trimmer = Trimmer(lambda: process.used, lambda: process.resident, process.trim)
    process.resident = process.stays = 400 << 20
    assert await trimmer.look()
    assert [await trimmer.look() for _ in range(RETRY_LOOKS)] == [False] * (RETRY_LOOKS - 1) + [True]
    process.resident = process.stays + SLACK_BYTES + 1
    assert await trimmer.look()


def test_the_memory_of_this_process_is_known() -> None:
    assert resident_bytes() > 10 << 20
