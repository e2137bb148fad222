"""The first administrator from the environment of the InfluxDB 1.x image; once, and harmless on a restart.

It is made together with the organization ``default``, in one batch; where that organization is there already, nothing
is done: an administrator who was dropped does not come back with the next restart. Source: the image's documentation,
``INFLUXDB_ADMIN_USER``; decision 16.
"""

from __future__ import annotations

from common.errors import Conflict, Invalid
from common.identity import Identity
from common.log import get_logger
from services.auth import databases, legacy, orgs, passwords, setup, v1_users
from services.auth.config import AuthSettings
from services.auth.context import Context
from services.auth.entities import INSTANCE_ID, OWNER, Legacy, Member, Org, Password, User
from services.auth.permissions import all_access
from services.auth.records import Change, KeyTaken, Stale
from services.auth.statements import CreateDatabase

log = get_logger("first_admin")
ORG = "default"
_OFF = ("false", "0", "f", "no", "off")


def is_wanted(settings: AuthSettings) -> bool:
    """Whether the environment asks for one. Raises Invalid; the text holds no secret."""
    if settings.v1_auth_enabled.strip().lower() in _OFF:
        log.warning("INFLUXDB_HTTP_AUTH_ENABLED changes nothing: every request needs a credential")
    if not settings.v1_admin_user:
        if settings.v1_admin_password or settings.v1_database:
            log.warning("INFLUXDB_ADMIN_PASSWORD and INFLUXDB_DB change nothing without INFLUXDB_ADMIN_USER")
        return False
    if not settings.v1_admin_password:
        raise Invalid("INFLUXDB_ADMIN_USER needs INFLUXDB_ADMIN_PASSWORD: none is made up, it would have to be printed")
    try:
        v1_users.check_password(settings.v1_admin_password)
    except Invalid as error:
        raise Invalid(f"INFLUXDB_ADMIN_PASSWORD: {error}") from None
    return True


async def ensure(context: Context, made: setup.Made | None) -> None:
    """Make the administrator, and its database, unless the organization ``default`` was there before.

    Args:
        made: what this start has set up, None = nothing: its organization may be ``default`` itself.

    Raises:
        Conflict: the name is another one's. Unavailable: storage does not answer.
    """
    reader = context.records.reader()
    name = context.settings.v1_admin_user
    change = Change()
    org = await reader.find_unique(Org, Org.name_key(ORG))
    if org is not None and (made is None or made.org.id != org.id):
        log.info("the organization default is there: INFLUXDB_ADMIN_USER changes nothing")
        return
    user = made.user if made is not None and org is not None else await reader.find_unique(User, User.name_key(name))
    hashed = await context.passwords.hash(context.settings.v1_admin_password)
    if user is None:
        user = await _add_user(context, change, name, hashed)
    else:
        change.require(user)
    if org is None:
        org = orgs.add(context, change, ORG, "", user.id)
    else:
        change.require(org)
    admin = legacy.make(context, name, org.id, user.id, all_access(org.id, user.id))
    change.create(admin, Password(id=admin.id, hash=hashed))
    try:
        await context.records.change(change)
    except KeyTaken as taken:
        raise Conflict(f"INFLUXDB_ADMIN_USER: the name is taken ({taken.key.partition(':')[0]})") from None
    except Stale:
        raise Conflict("INFLUXDB_ADMIN_USER: others set up at the same moment") from None
    context.audit.record("v1.first_admin", "done", target=name, org_id=org.id, credential_id=admin.id)
    log.info("first administrator made", user=name, org=ORG)
    if context.settings.v1_database:
        await _make_database(context, admin)


async def _add_user(context: Context, change: Change, name: str, hashed: str) -> User:
    """A user of the v2 API of the same name, who owns it all; on an instance that was never set up also that."""
    user = User(id=context.ids.sortable(), name=name)
    change.create(user)
    if await setup.is_allowed(context):
        change.require_none(User, Org)
        change.create(
            Member(
                id=context.ids.sortable(), resource_type="instance", resource_id=INSTANCE_ID, user_id=user.id,
                role=OWNER,
            )
        )  # fmt: skip
    try:
        passwords.check_acceptable(context.settings.v1_admin_password, context.settings.strong_passwords)
    except Invalid as error:
        log.warning("the first administrator cannot sign in at /api/v2/signin", reason=str(error))
    else:
        change.create(Password(id=user.id, hash=hashed))
    return user


async def _make_database(context: Context, admin: Legacy) -> None:
    identity = Identity("legacy", admin.id, admin.user_id, admin.org_id, admin.permissions)
    await databases.create_database(context, identity, admin.org_id, CreateDatabase(context.settings.v1_database))
    log.info("database made", database=context.settings.v1_database)
