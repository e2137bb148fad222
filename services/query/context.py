"""What one request to the query service knows: who asks, when, of which database, and how to read.

Names become buckets here and nowhere else in this service: mappings, then the permission to read, with the texts of a
statement that fails. Source: spec/http-query-v1.md, section 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from common.dbrp import Mapping, MappingTable
from common.errors import Invalid
from common.identity import Identity
from common.model import Bucket
from services.query.control.queries import Running
from services.query.planning.prepared import Preparations

if TYPE_CHECKING:
    from services.query.control.peers import Peers
    from services.query.reading.reader import Reader


class MappingSource(Protocol):
    """Where the mappings of an organization come from."""

    async def of_org(self, org_id: str, *, confirm: bool = False) -> MappingTable:
        """The mappings of *org_id*, with *confirm* read at their source. Raises NotFound: no such organization."""
        ...


@dataclass(frozen=True, slots=True)
class SelectLimits:
    """What one SELECT may take; 0 = no limit."""

    points: int = 0
    series: int = 0
    buckets: int = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: the client's address, and the request's id; auth's audit log names them."""

    remote: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class QueryContext:
    """Of one request; the same for all its statements and their subqueries.

    Attributes:
        database: the parameter ``db``, "" = none. A statement's own ON or qualified name wins.
        policy: the parameter ``rp``, "" = none; it belongs to ``database`` only.
        now_ns: what ``now()`` is, ns since the epoch.
        prepared: what is known of SELECTs that were asked before.
    """

    identity: Identity
    database: str
    policy: str
    now_ns: int
    mappings: MappingSource
    reader: Reader
    running: Running = field(default_factory=Running)
    limits: SelectLimits = SelectLimits()
    peers: Peers | None = None
    origin: Origin = Origin()
    prepared: Preparations = field(default_factory=Preparations)
    # What names were found to be, each in the mappings of that moment: a statement asks for one several times.
    _found: dict[tuple[str, str], tuple[MappingTable, Bucket]] = field(default_factory=dict, repr=False)

    async def resolve(self, database: str = "", policy: str = "") -> Bucket:
        """The bucket that a statement reads from.

        Args:
            database: as the statement names it, "" = the request's.
            policy: as the statement names it, "" = the request's for the request's own database, else the default.

        Raises:
            Invalid: ``database name required``, ``database not found: x``, ``retention policy not found: y`` or
                ``default retention policy not set for: x``; confirmed at auth before it is said.
        """
        if not database and not self.database:
            raise Invalid("database name required")
        if not policy and database in ("", self.database):
            policy = self.policy
        return await self._find(database or self.database, policy, "database not found: ")

    async def resolve_default(self, database: str = "") -> Bucket:
        """As ``resolve`` for SHOW TAG KEYS and TAG VALUES: always the default policy, and an unknown database is
        ``default retention policy not set for: x``."""
        if not database and not self.database:
            raise Invalid("database name required")
        return await self._find(database or self.database, "", "default retention policy not set for: ")

    async def readable(self) -> list[Mapping]:
        """The mappings whose bucket the caller may read: stored ones by age, then virtual ones by bucket name.

        Read at auth: a list shows a database that was made a moment ago at another replica.
        """
        table = await self.mappings.of_org(self.org_id, confirm=True)
        return [mapping for mapping in table.mappings if self.may_read(mapping.bucket)]

    async def readable_of(self, database: str) -> list[Mapping]:
        """As ``readable``, of one database."""
        return [mapping for mapping in await self.readable() if mapping.database == database]

    @property
    def org_id(self) -> str:
        return self.identity.org_id or ""

    def may_read(self, bucket: Bucket) -> bool:
        return self.identity.may("read", "buckets", bucket.id, bucket.org_id)

    async def _find(self, database: str, policy: str, unknown: str) -> Bucket:
        refusal = unknown + database
        # A mapping made a moment ago may not have reached this replica's cache: a refusal is confirmed once.
        for confirm in (False, True):
            table = await self.mappings.of_org(self.org_id, confirm=confirm)
            found = self._found.get((database, policy))
            if found is not None and found[0] is table:
                return found[1]
            known = [mapping for mapping in table.of_database(database) if self.may_read(mapping.bucket)]
            fitting = [m for m in known if (m.retention_policy == policy if policy else m.default)]
            if fitting:
                # Stored mappings come first, so a stored default wins over the virtual one.
                self._found[database, policy] = table, fitting[0].bucket
                return fitting[0].bucket
            if known:
                refusal = (
                    f"retention policy not found: {policy}"
                    if policy
                    else f"default retention policy not set for: {database}"
                )
        raise Invalid(refusal)
