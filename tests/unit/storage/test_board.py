"""The board, both sides of it: what storage counts up is never taken for unchanged, whoever kept it before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from common import board
from services.query.reading import board as reading
from services.storage import board as keeping

CPU, MEM = board.word_of("b1", "cpu"), board.word_of("b1", "mem")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Both:
    """A board in *folder*, of the data folder within it, and a reader that has learnt of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.clock = Clock()
        self.reader = reading.Board(str(folder), self.clock)
        self.keeper = self.start()
        self.learn()

    def start(self) -> keeping.Board:
        return keeping.Board(str(self.folder), self.data)

    def learn(self) -> None:
        """Storage answers a question."""
        told = self.keeper.told
        self.reader.learn(None if told is None else list(told), self.clock())

    @property
    def path(self) -> Path:
        return self.folder / keeping.name_of(self.data)


def kill(keeper: keeping.Board) -> None:
    """What is left of it when its process has been killed."""
    keeper._words = None  # the mapping has a descriptor too
    os.close(keeper._descriptor)
    keeper._descriptor = -1


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


def test_what_is_not_counted_up_holds(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    both.keeper.count_up(MEM)
    assert both.reader.holds(CPU, stamp)
    both.keeper.count_up(CPU)
    assert not both.reader.holds(CPU, stamp)
    assert both.reader.holds(CPU, both.reader.stamp(CPU))


def test_a_change_between_the_stamp_and_the_answer_counts(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    both.keeper.count_up(CPU)
    both.learn()
    assert not both.reader.holds(CPU, stamp)


def test_nothing_holds_before_storage_has_told_of_a_board(tmp_path: Path) -> None:
    reader = reading.Board(str(tmp_path))
    assert reader.stamp(CPU) is None
    assert not reader.holds(CPU, None)


def test_it_is_believed_for_a_while_after_storage_answered(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    both.clock.now_s += reading.LEASE_S * 0.9
    assert both.reader.holds(CPU, stamp)
    both.clock.now_s += reading.LEASE_S * 0.2
    assert not both.reader.holds(CPU, stamp)
    both.learn()
    assert both.reader.holds(CPU, stamp)


def test_a_late_answer_shortens_nothing(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    both.reader.learn(list(both.keeper.told or ()), both.clock() - 10)
    assert both.reader.holds(CPU, stamp)


def test_an_answer_without_a_board_ends_the_belief(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    both.reader.learn(None, both.clock())
    assert not both.reader.holds(CPU, stamp)
    assert not both.reader.is_open


def test_a_storage_that_ends_takes_it_away(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    both.keeper.close()
    assert not both.reader.holds(CPU, stamp)
    assert not both.path.exists()
    assert both.keeper.told is None
    both.keeper.count_up(CPU)  # what is still under way has nobody to tell


def test_the_next_storage_is_not_taken_for_the_one_that_was_killed(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    kill(both.keeper)
    assert both.reader.holds(CPU, stamp)  # so far nobody can have changed anything
    both.keeper = both.start()
    assert both.keeper.told is not None
    assert not both.reader.holds(CPU, stamp)
    both.learn()
    assert not both.reader.holds(CPU, stamp)
    assert both.reader.holds(CPU, both.reader.stamp(CPU))
    both.keeper.count_up(CPU)
    assert not both.reader.holds(CPU, stamp)


def test_nor_when_the_file_was_deleted_under_it(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    both.path.unlink()
    assert not both.reader.holds(CPU, stamp)
    kill(both.keeper)
    both.keeper = both.start()
    both.keeper.count_up(CPU)
    assert not both.reader.holds(CPU, stamp)
    both.learn()
    assert both.reader.holds(CPU, both.reader.stamp(CPU))


def test_boards_of_killed_storages_are_taken_away_by_the_next_one(both: Both, tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    second = keeping.Board(str(tmp_path), other)
    kill(both.keeper)
    (third := tmp_path / "third").mkdir()
    keeping.Board(str(tmp_path), third)
    assert not both.path.exists()
    assert (tmp_path / keeping.name_of(other)).exists()
    assert second.told is not None


@pytest.mark.parametrize("content", [b"precious", bytes(board.SIZE_BYTES)])
def test_other_files_are_left_alone_whatever_their_names(both: Both, content: bytes) -> None:
    (other := both.folder / f"{keeping.PREFIX}notes").write_bytes(content)
    (third := both.folder / "third").mkdir()
    keeping.Board(str(both.folder), third)
    assert other.read_bytes() == content


def test_a_board_that_somebody_keeps_is_not_taken(both: Both) -> None:
    stamp = both.reader.stamp(CPU)
    assert both.start().told is None
    assert both.reader.holds(CPU, stamp)


def test_a_board_that_others_may_write_is_not_used(both: Both) -> None:
    both.keeper.close()
    both.path.touch()
    both.path.chmod(0o666)
    assert both.start().told is None
    both.path.write_bytes(bytes(board.SIZE_BYTES))
    both.reader.learn([both.path.name, 1], both.clock())
    assert not both.reader.is_open


def test_a_link_is_not_followed(both: Both) -> None:
    both.keeper.close()
    (target := both.folder / "target").write_bytes(b"precious")
    both.path.symlink_to(target)
    assert both.start().told is None
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("folder", ["", "/nowhere/at/all"])
def test_without_shared_memory_there_is_none(tmp_path: Path, folder: str) -> None:
    keeper = keeping.Board(folder, tmp_path)
    assert keeper.told is None
    keeper.count_up(CPU)
    keeper.close()


def test_where_the_memory_is_full_there_is_none(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    both.keeper.close()
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert both.start().told is None
    assert not both.path.exists()


@pytest.mark.parametrize(
    "told", [None, [], ["a"], [1, 2], ["../x", 7], ["tidegate-none", 7], "text", {"a": 1}, ["a", 0]]
)
def test_other_things_that_are_told_are_no_board(tmp_path: Path, told: Any) -> None:
    reader = reading.Board(str(tmp_path))
    reader.learn(told, reader.now_s())
    assert reader.stamp(CPU) is None
    assert not reader.is_open


@pytest.mark.parametrize("spoil", [lambda words: words[:-8], lambda words: bytes(8) + words[8:]], ids=["cut", "magic"])
def test_what_has_another_layout_is_no_board(both: Both, spoil: Any) -> None:
    both.path.write_bytes(spoil(both.path.read_bytes()))
    reader = reading.Board(str(both.folder))
    reader.learn(list(both.keeper.told or ()), reader.now_s())
    assert not reader.is_open


def test_a_bucket_and_its_measurements_have_slots_of_their_own() -> None:
    words = {board.word_of("b1"), CPU, MEM, board.word_of("b2", "cpu"), board.word_of("b1", "m\udcff")}
    assert len(words) == 5
    assert all(board.HEADER <= word < board.HEADER + board.SLOTS for word in words)
