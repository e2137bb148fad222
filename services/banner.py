"""What the supervisor prints once everything is ready: where to go next."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from typing import Any

_STEPS = """
Tidegate is ready on {url}

  {setup}
  write:  curl '{url}/api/v2/write?org=ORG&bucket=BUCKET' -H 'Authorization: Token TOKEN' \\
            --data-binary 'cpu,host=a usage=0.5'
  read:   curl -G '{url}/query' -H 'Authorization: Token TOKEN' \\
            --data-urlencode db=BUCKET --data-urlencode 'q=SELECT * FROM cpu'
  look:   {url}/health   {url}/ready   {url}/metrics
  more:   README.md. Ctrl-C stops everything.
"""
_SET_UP = """set up: curl {url}/api/v2/setup \\
            -d '{{"username":"me","password":"at-least-8","org":"ORG","bucket":"BUCKET"}}'
          (the answer shows your token, once)"""


async def tell_when_ready(port: int) -> None:
    """Wait until the gateway says that all services are ready, then print the next steps to standard error."""
    url = f"http://localhost:{port}"
    while await asyncio.to_thread(_get, f"{url}/ready") is None:
        await asyncio.sleep(0.2)
    state = await asyncio.to_thread(_get, f"{url}/api/v2/setup")
    fresh = isinstance(state, dict) and state.get("allowed") is True
    setup = _SET_UP.format(url=url) if fresh else "set up: done already"
    print(_STEPS.format(url=url, setup=setup), file=sys.stderr, flush=True)


def _get(url: str) -> Any:
    """The JSON of a 200 answer, or None."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own gateway on loopback
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None
