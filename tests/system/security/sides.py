"""An organization with one object of each kind, and the bodies that make and change them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from common.identity import RESOURCE_TYPES
from tests.stack import Stack
from tests.system.security.figures import fresh, permission, sign_in

V2, LEGACY = "/api/v2", "/private/legacy"
# In the order in which they can be made.
KINDS = (
    "users", "buckets", "dbrps", "labels", "variables", "telegrafs", "authorizations", "legacy",
)  # fmt: skip
PATHS = {kind: f"{V2}/{kind}" for kind in (*KINDS, "orgs")} | {"legacy": f"{LEGACY}/authorizations"}
PASSWORD = "a-long-password"


@dataclass
class Side:
    """One organization. ``ids`` by kind; ``bucket`` is the name of its bucket, which is a database of that name."""

    stack: Stack
    name: str = field(default_factory=lambda: fresh("side"))
    bucket: str = field(default_factory=lambda: fresh("db"))
    ids: dict[str, str] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)
    _reader: str = ""

    @property
    def org_id(self) -> str:
        return self.ids["orgs"]

    @property
    def owner_id(self) -> str:
        """The user whom its tokens belong to."""
        return self.ids["users"]

    def build(self) -> Side:
        self.ids["orgs"] = self.post(f"{V2}/orgs", {"name": self.name})["id"]
        for kind in KINDS:
            self.ids[kind] = self.make(kind, self.bucket if kind == "buckets" else None)
        self.post(f"{V2}/write?orgID={self.org_id}&bucket={self.bucket}", "m,t=a v=1 1")
        return self

    def make(self, kind: str, name: str | None = None) -> str:
        """A new object of the organization; its id."""
        made = self.post(PATHS[kind], self.body(kind, name))
        found: str = made["label"]["id"] if kind == "labels" else made["id"]
        return found

    def body(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """What makes an object of *kind*."""
        name = name or fresh(kind)
        if kind in ("orgs", "users"):
            return {"name": name}
        body: dict[str, Any] = {"orgID": self.org_id, "name": name}
        if kind == "dbrps":
            bucket_id = self.ids["buckets"]
            body |= {"bucketID": bucket_id, "database": name, "retention_policy": name, "default": False}
        elif kind == "variables":
            body |= {"arguments": {"type": "constant", "values": ["a"]}}
        elif kind == "telegrafs":
            body |= {"config": "[agent]", "metadata": {"buckets": []}}
        elif kind in ("authorizations", "legacy"):
            permissions = [permission("read", "buckets", orgID=self.org_id)]
            body |= {"userID": self.owner_id, "permissions": permissions, "token": name, "description": name}
        return body

    def change(self, kind: str) -> tuple[str, dict[str, Any]]:
        """Method and body of a change of an object."""
        if kind == "telegrafs":
            return "PUT", self.body(kind)
        if kind in ("authorizations", "legacy"):
            return "PATCH", {"description": fresh("new")}
        if kind == "buckets":  # under another name it would be another database
            return "PATCH", {"name": self.bucket}
        return "PATCH", {"retention_policy": fresh("rp")} if kind == "dbrps" else {"name": fresh("new")}

    def everything(self) -> list[dict[str, Any]]:
        """What an all-access token of the organization holds."""
        scopes = {"orgs": {"id": self.org_id}, "users": {"id": self.owner_id}}
        return [
            permission(action, type, **scopes.get(type, {"orgID": self.org_id}))
            for type in RESOURCE_TYPES
            if type != "instance"
            for action in ("read", "write")
        ]

    def sign_in_owner(self) -> dict[str, str]:
        """The headers of a session of the tokens' user, who owns the organization from now on."""
        self.post(f"{V2}/users/{self.owner_id}/password", {"password": PASSWORD})
        self.post(f"{V2}/orgs/{self.org_id}/owners", {"id": self.owner_id})
        name = self.ask("GET", f"{V2}/users/{self.owner_id}", self.stack.token).json()["name"]
        return {"Cookie": sign_in(self.stack, name, PASSWORD)}

    def reader(self) -> str:
        """A token that reads all buckets of the organization: a v1 request is about the token's own."""
        if not self._reader:
            self._reader = self.token([permission("read", "buckets", orgID=self.org_id)])
        return self._reader

    def token(self, permissions: list[dict[str, Any]]) -> str:
        """A new token of the organization."""
        body = {"orgID": self.org_id, "userID": self.owner_id, "permissions": permissions}
        made: str = self.post(PATHS["authorizations"], body)["token"]
        return made

    def post(self, path: str, body: Any) -> Any:
        """A call of the operator that has to succeed."""
        answer = self.ask("POST", path, self.stack.token, body)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def ask(
        self, method: str, path: str, who: str | Mapping[str, str], body: Any = None, params: Any = None
    ) -> requests.Response:
        """One call over a connection that is kept.

        Args:
            who: a token, or the headers of another credential.
            body: as it is if it is text, else as JSON.
        """
        sent: dict[str, Any] = {"data": body} if isinstance(body, str) else {} if body is None else {"json": body}
        headers = {"Authorization": f"Token {who}"} if isinstance(who, str) else who
        return self.session.request(method, self.stack.url + path, params=params, headers=headers, timeout=60, **sent)
