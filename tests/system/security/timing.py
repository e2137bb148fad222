"""S03: whether the time of a refusal tells how much of a token was right."""

from __future__ import annotations

import http.client
import random
import statistics
import time

from services.auth.security.hashing import make_secret
from tests.stack import Stack
from tests.system.security.figures import make_token, permission, show

BLOCKS = 20


def compare_refusals(stack: Stack, trials: int) -> None:
    """Print and check S03: tokens whose beginning is right against random ones, *trials* of each, interleaved.

    The limit is three times the noise: how far the medians of blocks of random ones lie from each other anyway.
    """
    value = make_token(stack, [permission("read", "buckets", orgID=stack.org_id())])["token"]
    order = [True, False] * trials
    random.Random(1).shuffle(order)
    times: dict[bool, list[float]] = {True: [], False: []}
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    for near in order:
        tried = value[:-4] + make_secret()[:4] if near else make_secret()
        began = time.perf_counter()
        connection.request("GET", "/api/v2/me", headers={"Authorization": f"Token {tried}"})
        answer = connection.getresponse()
        answer.read()
        times[near].append(time.perf_counter() - began)
        assert answer.status == 401
    connection.close()
    size = len(times[False]) // BLOCKS
    medians = [statistics.median(times[False][n * size : (n + 1) * size]) for n in range(BLOCKS)]
    noise = statistics.median(abs(median - statistics.median(medians)) for median in medians)
    delta = abs(statistics.median(times[True]) - statistics.median(times[False]))
    figure = f"{delta * 1e6:.1f}us/{trials}each"
    show("S03", figure, f"{3 * noise * 1e6:.1f}us", delta <= 3 * noise)
