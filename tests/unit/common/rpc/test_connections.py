"""Kept connections: when one carries the next call, and when it must not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from common.rpc.connections import Answered, Connections, NotConnected, Place, find_place

REQUEST = b"POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Far:
    """A far end that gives each request the next of *answers*, None = none; it counts its connections."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            answer = self.answers.pop(0)
            if answer is not None:
                writer.write(answer)
        self.ended.set()
        writer.close()


@pytest.fixture
async def far() -> AsyncIterator[tuple[Far, Place]]:
    far = Far()
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield far, Place("127.0.0.1", port, f"127.0.0.1:{port}")
    server.close()


async def ask(pool: Connections, place: Place, timeout_s: float | None = 5) -> bytes:
    connection = await pool.acquire(place)
    try:
        answered = await connection.ask(REQUEST, (), timeout_s)
        assert isinstance(answered, Answered)
        return await answered.content.read()
    finally:
        pool.release(connection)


async def test_calls_after_each_other_share_a_connection(far: tuple[Far, Place]) -> None:
    end, place = far
    end.answers = [ANSWER] * 3
    pool = Connections(4)
    for _ in range(3):
        assert await ask(pool, place) == b"ok"
    pool.close()
    assert len(end.writers) == 1


async def test_calls_at_the_same_time_have_one_each_and_no_more_than_the_limit(far: tuple[Far, Place]) -> None:
    end, place = far
    end.answers = [ANSWER] * 9
    pool = Connections(3)
    assert await asyncio.gather(*(ask(pool, place) for _ in range(9))) == [b"ok"] * 9
    pool.close()
    assert len(end.writers) == 3


@pytest.mark.parametrize("answer", [ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), ANSWER + ANSWER])
async def test_a_connection_that_is_closed_or_not_clean_is_not_used_again(
    far: tuple[Far, Place], answer: bytes
) -> None:
    end, place = far
    end.answers = [answer, ANSWER]
    pool = Connections(4)
    assert await ask(pool, place) == b"ok"
    await end.ended.wait()
    assert await ask(pool, place) == b"ok"
    pool.close()
    assert len(end.writers) == 2


async def test_a_connection_that_died_while_idle_is_replaced(far: tuple[Far, Place]) -> None:
    end, place = far
    end.answers = [ANSWER, ANSWER]
    pool = Connections(4)
    await ask(pool, place)
    end.writers[0].transport.abort()
    await end.ended.wait()
    await asyncio.sleep(0.02)
    assert await ask(pool, place) == b"ok"
    pool.close()


async def test_a_call_that_is_given_up_ends_its_connection_and_gives_its_place_back(far: tuple[Far, Place]) -> None:
    end, place = far
    end.answers = [None, ANSWER]
    pool = Connections(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask(pool, place)
    await end.ended.wait()
    assert await ask(pool, place) == b"ok"
    pool.close()


async def test_a_far_end_that_says_nothing_is_a_timeout(far: tuple[Far, Place]) -> None:
    end, place = far
    end.answers = [None, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"]
    pool = Connections(1)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await ask(pool, place, timeout_s=0.05)
    pool.close()


PIECE = b"x" * (256 << 10)


async def pieces(count: int, sent: list[int]) -> AsyncGenerator[bytes, None]:
    for number in range(count):
        sent.append(number)
        yield PIECE


async def start(handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Place:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return Place("127.0.0.1", port, f"127.0.0.1:{port}")


def streamed_head(count: int) -> bytes:
    return b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (count * len(PIECE))


async def test_a_streamed_body_goes_out_as_it_comes_and_keeps_the_connection() -> None:
    bodies: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            bodies.append(await reader.readexactly(8 * len(PIECE)))
            writer.write(ANSWER)

    place = await start(take)
    pool = Connections(1)
    for _ in range(2):
        connection = await pool.acquire(place)
        answered = await connection.ask(streamed_head(8), pieces(8, []), 5)
        assert isinstance(answered, Answered)
        assert await answered.content.read() == b"ok"
        assert connection.is_reusable
        pool.release(connection)
    pool.close()
    assert bodies == [PIECE * 8] * 2


async def test_an_answer_before_the_body_is_out_ends_the_body_and_the_connection() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        while await reader.read(1 << 20):
            pass

    place = await start(refuse)
    pool = Connections(1)
    connection = await pool.acquire(place)
    sent: list[int] = []
    async with asyncio.timeout(10):
        answered = await connection.ask(streamed_head(1 << 20), pieces(1 << 20, sent), 5)
        assert isinstance(answered, Answered)
    assert await answered.content.read() == b"ok"
    assert len(sent) < 1 << 20
    assert not connection.is_reusable
    pool.release(connection)
    pool.close()


async def test_a_far_end_that_takes_nothing_is_a_timeout() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    place = await start(stall)
    pool = Connections(1)
    connection = await pool.acquire(place)
    with pytest.raises(TimeoutError):
        await connection.ask(streamed_head(1 << 20), pieces(1 << 20, []), 0.1)
    pool.release(connection)
    pool.close()


async def test_a_far_end_that_goes_in_the_middle_of_a_body_is_no_connection() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    place = await start(leave)
    pool = Connections(1)
    connection = await pool.acquire(place)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await connection.ask(streamed_head(1 << 20), pieces(1 << 20, []), 5)
    pool.release(connection)
    pool.close()


async def test_nobody_there_is_told_apart_and_gives_the_place_back(far: tuple[Far, Place]) -> None:
    end, place = far
    end.answers = [ANSWER]
    pool = Connections(1)
    for _ in range(2):
        with pytest.raises(NotConnected):
            await pool.acquire(Place("127.0.0.1", 1, "127.0.0.1:1"))
    assert await ask(pool, place) == b"ok"
    pool.close()


def test_only_plain_addresses_are_places() -> None:
    assert find_place("http://127.0.0.1:8091") == Place("127.0.0.1", 8091, "127.0.0.1:8091")
    assert find_place("http://[::1]:8091/") == Place("::1", 8091, "[::1]:8091")
    assert find_place("http://storage") == Place("storage", 80, "storage")
    for other in ("https://storage:1", "http://storage:1/prefix", "http://user:word@storage:1", "http://storage:x"):
        assert find_place(other) is None
