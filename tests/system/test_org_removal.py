"""auth is killed while an organization with more in it than one batch holds is deleted: it is whole or gone."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path
from typing import Any

import requests

from common.config import ServiceSettings, load_keys
from common.rpc.client import RpcClient
from services.auth.entities.assets import Label
from services.auth.entities.buckets import Bucket
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.records.store import Records
from tests.stack import Stack

BUCKETS, LABELS, ROUNDS = 1_800, 1_500, 3


def storage(stack: Stack, client: RpcClient) -> Records:
    return Records(client, f"http://127.0.0.1:{stack.storage_port}", lambda tags, number: None)


async def fill(stack: Stack, org_id: str) -> None:
    client = RpcClient(load_keys(ServiceSettings(data=Path(stack.settings()["TIDEGATE_DATA"]))), "auth")
    await client.open()
    change = Change()
    for n in range(BUCKETS):
        change.create(
            Bucket(id=f"{random.getrandbits(63) + 1:016x}", org_id=org_id, name=f"b{n}", shard_ns=86_400 * 10**9,
                   created_ns=1, updated_ns=1)
        )  # fmt: skip
    for n in range(LABELS):
        change.create(Label(id=f"{random.getrandbits(63) + 1:016x}", org_id=org_id, name=f"l{n}"))
    for start in range(0, len(change.puts), 1000):
        await storage(stack, client).change(Change(puts=change.puts[start : start + 1000]))
    await client.close()


async def left(stack: Stack, org_id: str) -> dict[str, int]:
    """How many records of the organization storage holds."""
    client = RpcClient(load_keys(ServiceSettings(data=Path(stack.settings()["TIDEGATE_DATA"]))), "auth")
    await client.open()
    reader: Reader = storage(stack, client).reader()
    counts = {kind.KIND: len(await reader.list_all(kind, "org_id", org_id)) for kind in (Bucket, Label)}
    await client.close()
    return counts


def test_a_killed_auth_leaves_an_organization_whole_or_gone(own_stack: Stack) -> None:
    stack = own_stack
    whole = gone = 0
    for number in range(ROUNDS):
        org_id = stack.json("POST", "/api/v2/orgs", {"name": "big"})["id"]
        asyncio.run(fill(stack, org_id))
        answers: list[Any] = []

        def delete(org_id: str = org_id, answers: list[Any] = answers) -> None:
            try:
                answers.append(stack.request("DELETE", f"/api/v2/orgs/{org_id}").status_code)
            except requests.RequestException as error:
                answers.append(error)

        thread = threading.Thread(target=delete)
        thread.start()
        time.sleep((0.05, 0.25, 0.45)[number % 3])
        stack.kill(stack.pids("auth")[0])
        thread.join()
        stack.wait_ready()
        status = stack.request("GET", f"/api/v2/orgs/{org_id}").status_code
        if status == 200:
            whole += 1
            assert answers != [204]
            assert asyncio.run(left(stack, org_id)) == {"bucket": BUCKETS + 2, "label": LABELS}
            assert stack.request("DELETE", f"/api/v2/orgs/{org_id}").status_code == 204
        else:
            gone += 1
            assert status == 404
        deadline = time.monotonic() + 20
        while any(asyncio.run(left(stack, org_id)).values()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert stack.request("DELETE", f"/api/v2/orgs/{org_id}").status_code == 404
    print(f"CASE ORG-KILL {ROUNDS} kills of auth: {whole} whole, {gone} gone, 0 in between PASS")
