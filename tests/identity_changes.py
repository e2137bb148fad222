"""Changes of identity that are under way while a service dies (R29), and what has to be true of each afterwards.

A kind of change makes its objects beforehand, changes each of them once, from several threads, and then looks at what
became of them: a change is whole or absent, what was answered is whole, and a value shown to the user works.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.faults.report import case
from tests.stack import BUCKET, Stack
from tests.system.test_crash import wait_for_restart

VICTIMS = ("auth", "storage", "gateway")
OBJECTS, THREADS = 8, 4
OLD, NEW = "the-old-password", "the-new-password"
POINTS = 20
MANY = 10
ACTIONS = ("read", "write")
SWEPT_WITHIN_S = 20.0
REFUSED_WITHIN_S = 1.0
# A cheap hash: the kills are to fall upon the records, not upon bcrypt.
ENVIRONMENT = {"TIDEGATE_BCRYPT_COST": "4"}


@dataclass
class Outcome:
    """What became of the changes; each of ``faults`` says what is neither whole nor absent."""

    seen: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def count(self, answered: bool, whole: bool, fault: str = "") -> None:
        """One change: *answered* with success or not, found whole or absent, or faulty."""
        if answered and not whole:
            fault = fault or "answered, but absent"
        if fault:
            self.faults.append(fault)
        self.seen["answered" if answered else "unanswered whole" if whole else "unanswered absent"] += 1

    def __str__(self) -> str:
        counts = " ".join(f"{name.replace(' ', '_')}={self.seen[name]}" for name in sorted(self.seen))
        return f"{counts} faults={len(self.faults)}"


class Changes(ABC):
    """One kind of change."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.org_id = stack.org_id()
        self.outcome = Outcome()

    @abstractmethod
    def make(self) -> Any:
        """A new object that can be changed once."""

    @abstractmethod
    def change(self, made: Any) -> requests.Response:
        """The change."""

    @abstractmethod
    def look(self, made: Any, answer: requests.Response | None) -> None:
        """Count what became of the change; *answer* is that of a success, None = something else, or nothing, came."""

    def find_late_faults(self) -> list[str]:
        """What can be seen only after all rounds."""
        return []

    def round(self, victim: str, delay_s: float) -> float:
        """Change some objects while *victim* is killed ("" = nobody), look at each; seconds that the changes took."""
        with ThreadPoolExecutor(THREADS) as pool:
            objects = list(pool.map(lambda _: self.make(), range(OBJECTS)))
            pids = self.stack.pids(victim) if victim else []
            started = threading.Barrier(THREADS + 1)
            shares = [objects[number::THREADS] for number in range(THREADS)]
            running = [pool.submit(self._change_all, share, started) for share in shares]
            started.wait()
            began_s = time.perf_counter()
            if victim:
                time.sleep(delay_s)
                self.stack.kill(pids[0])
            answers = [answer for share in running for answer in share.result()]
            took_s = time.perf_counter() - began_s
            if victim:
                wait_for_restart(self.stack, victim, len(pids), pids[0])
            changed = [made for share in shares for made in share]
            list(pool.map(self.look, changed, answers))
        return took_s

    def _change_all(self, objects: list[Any], started: threading.Barrier) -> list[requests.Response | None]:
        answers: list[requests.Response | None] = []
        started.wait()
        for made in objects:
            answer = None
            with contextlib.suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                answer = self.change(made)
            if answer is not None and not answer.ok and answer.status_code != 503:
                self.outcome.faults.append(f"{answer.status_code} {answer.text[:200]}")
            answers.append(answer if answer is not None and answer.ok else None)
        return answers


class TokenCreate(Changes):
    """An API token is made; its value is shown in the answer and nowhere else."""

    def make(self) -> str:
        """Its description, by which it is found."""
        return f"token {uuid.uuid4().hex}"

    def _permissions(self) -> list[dict[str, Any]]:
        resource = {"type": "buckets", "orgID": self.org_id}
        return [{"action": action, "resource": resource} for action in ACTIONS]

    def change(self, made: str) -> requests.Response:
        body = {"orgID": self.org_id, "description": made, "permissions": self._permissions()}
        return self.stack.request("POST", "/api/v2/authorizations", json=body)

    def look(self, made: str, answer: requests.Response | None) -> None:
        stack = self.stack
        listed = stack.json("GET", "/api/v2/authorizations", params={"orgID": self.org_id})["authorizations"]
        found = [item for item in listed if item["description"] == made]
        fault = f"{len(found)} of one creation" if len(found) > 1 else ""
        for item in found:
            scopes = [(p["action"], p["resource"]["type"], p["resource"]["orgID"]) for p in item["permissions"]]
            if item["status"] != "active" or scopes != [
                (action, "buckets", self.org_id) for action in ("read", "write")
            ]:
                fault = f"half a token: {item}"
        if answer is not None:
            statuses = [
                stack.request("POST", "/write", value, params={"db": BUCKET}, data=b"m v=1").status_code
                for value in (answer.json()["token"],) * 2
            ]
            if statuses != [204, 204]:
                fault = f"a value that was shown gives {statuses}"
        elif found:
            # One whose value nobody has seen can be found and removed.
            stack.json("DELETE", f"/api/v2/authorizations/{found[0]['id']}")
        self.outcome.count(answer is not None, bool(found), fault)


@dataclass(frozen=True)
class _Person:
    name: str
    path: str
    cookie: str = ""


class PasswordSet(Changes):
    """The password of a user, or of a 1.x name, is replaced: exactly one of the old and the new one works."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._made = 0

    def make(self) -> _Person:
        self._made += 1
        name = f"person-{uuid.uuid4().hex[:12]}"
        if self._made % 2:
            path = f"/api/v2/users/{self.stack.json('POST', '/api/v2/users', {'name': name})['id']}"
            self._set(path, OLD)
            answer = self._sign_in(name, OLD)
            assert answer.status_code == 204
            return _Person(name, path, answer.headers["Set-Cookie"].partition(";")[0])
        permissions = [{"action": "write", "resource": {"type": "buckets", "orgID": self.org_id}}]
        body = {"orgID": self.org_id, "token": name, "permissions": permissions}
        path = f"/private/legacy/authorizations/{self.stack.json('POST', '/private/legacy/authorizations', body)['id']}"
        self._set(path, OLD)
        assert self._works(_Person(name, path), OLD)
        return _Person(name, path)

    def _set(self, path: str, password: str) -> requests.Response:
        return self.stack.request("POST", f"{path}/password", json={"password": password})

    def _sign_in(self, name: str, password: str) -> requests.Response:
        return self.stack.request("POST", "/api/v2/signin", auth=(name, password))

    def _works(self, person: _Person, password: str) -> bool:
        if person.cookie:
            return self._sign_in(person.name, password).status_code == 204
        login = {"db": BUCKET, "u": person.name, "p": password}
        return self.stack.request("POST", "/write", None, params=login, data=b"m v=1").status_code == 204

    def change(self, made: _Person) -> requests.Response:
        return self._set(made.path, NEW)

    def look(self, made: _Person, answer: requests.Response | None) -> None:
        # What replicas remember of before is forgotten as soon as they hear of the change again.
        deadline = time.monotonic() + REFUSED_WITHIN_S
        while (old := self._works(made, OLD)) == (new := self._works(made, NEW)) and time.monotonic() < deadline:
            time.sleep(0.02)
        fault = "" if old != new else f"{made.name}: the old works: {old}, the new works: {new}"
        if made.cookie and not fault:
            headers = {"Cookie": made.cookie}
            lives = self.stack.request("GET", "/api/v2/me", None, headers=headers).status_code == 200
            if lives != old:
                fault = f"{made.name}: the old password works: {old}, a session by it: {lives}"
        self.outcome.count(answer is not None, new, fault)


@dataclass(frozen=True)
class _Bucket:
    name: str
    id: str
    mapping_id: str


class BucketDelete(Changes):
    """A bucket is deleted with its data, mapping, member and label: all of it or nothing."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        label = {"orgID": self.org_id, "name": f"label-{uuid.uuid4().hex[:8]}"}
        self._label_id = stack.json("POST", "/api/v2/labels", label)["label"]["id"]
        self._member_id = stack.json("POST", "/api/v2/users", {"name": f"member-{uuid.uuid4().hex[:8]}"})["id"]
        self._gone: list[str] = []

    def make(self) -> _Bucket:
        name = f"doomed-{uuid.uuid4().hex[:12]}"
        id = self.stack.make_bucket(name)
        path = f"/api/v2/buckets/{id}"
        mapping = {"orgID": self.org_id, "bucketID": id, "database": f"{name}-db", "retention_policy": "rp"}
        mapping_id = self.stack.json("POST", "/api/v2/dbrps", mapping)["id"]
        self.stack.json("POST", f"{path}/labels", {"labelID": self._label_id})
        self.stack.json("POST", f"{path}/members", {"id": self._member_id})
        lines = "\n".join(f"m,t=t{n % 3} v={n}i {n + 1}" for n in range(POINTS))
        assert self.stack.write(lines, f"{name}-db").status_code == 204
        return _Bucket(name, id, mapping_id)

    def change(self, made: _Bucket) -> requests.Response:
        return self.stack.request("DELETE", f"/api/v2/buckets/{made.id}")

    def look(self, made: _Bucket, answer: requests.Response | None) -> None:
        stack, path = self.stack, f"/api/v2/buckets/{made.id}"
        status = stack.request("GET", path).status_code
        mapped = stack.request("GET", f"/api/v2/dbrps/{made.mapping_id}", params={"orgID": self.org_id}).status_code
        fault = ""
        if status == 200:
            labels = [item["id"] for item in stack.json("GET", f"{path}/labels")["labels"]]
            members = [item["id"] for item in stack.json("GET", f"{path}/members")["users"]]
            rows = stack.rows("SELECT v FROM m", f"{made.name}-db", epoch="ns")
            left = (mapped, labels, members, [row[1] for row in rows])
            if left != (200, [self._label_id], [self._member_id], list(range(POINTS))):
                fault = f"half a bucket: {left}"
            elif stack.write("m v=0i 99", f"{made.name}-db").status_code != 204:
                fault = "a bucket that is still there takes no write"
        else:
            self._gone.append(made.id)
            named = stack.json("GET", "/api/v2/buckets", params={"name": made.name})["buckets"]
            writes = [stack.write("m v=1i 1", db).status_code for db in (made.name, f"{made.name}-db")]
            if (status, mapped, named, writes) != (404, 404, [], [404, 404]):
                fault = f"half gone: {(status, mapped, named, writes)}"
            else:
                self._make_again(made)
        self.outcome.count(answer is not None, status != 200, fault)

    def _make_again(self, made: _Bucket) -> None:
        """Its name is free, and what comes to it is alone."""
        self.stack.make_bucket(made.name)
        assert self.stack.write("other v=1i 1", made.name).status_code == 204
        found = self.stack.rows("SHOW MEASUREMENTS", made.name)
        if found != [["other"]]:
            self.outcome.faults.append(f"a new bucket {made.name} has {found}")

    def find_late_faults(self) -> list[str]:
        """The data of what is gone is deleted from the disk, by the sweep that also runs after a kill."""
        place = f"file:{self.stack.folder / 'data' / 'tidegate.db'}?mode=ro"
        deadline = time.monotonic() + SWEPT_WITHIN_S
        while True:
            with contextlib.closing(sqlite3.connect(place, uri=True)) as database:
                kept = {bucket.decode() for (bucket,) in database.execute("SELECT bucket FROM measurements")}
            left = kept.intersection(self._gone)
            if not left or time.monotonic() > deadline:
                return [f"the data of bucket {id} is still on the disk" for id in sorted(left)]
            time.sleep(0.2)


def prove(kind: type[Changes], folder: Path, kills: int) -> None:
    """Print the case of one kind: *kills*, of the victims in turn, each at a moment at which changes are under way."""
    stack = Stack(folder, ENVIRONMENT).start()
    try:
        changes = kind(stack)
        outcome = changes.outcome
        # Rounds in peace say how long one is; the first of a stack is a long one.
        span_s = min(changes.round("", 0) for _ in range(2))
        draw = random.Random(29)
        for number in range(kills):
            changes.round(VICTIMS[number % len(VICTIMS)], draw.uniform(0, span_s))
        outcome.faults += changes.find_late_faults()
    finally:
        stack.stop()
    print(*outcome.faults[:10], sep="\n")
    cut_off = outcome.seen["unanswered whole"] + outcome.seen["unanswered absent"]
    case(
        f"R29-{kind.__name__}",
        f"kills={kills} {outcome}",
        "0 faults, of many kills some cut a change off",
        not outcome.faults and (cut_off > 0 or kills < MANY),
    )
