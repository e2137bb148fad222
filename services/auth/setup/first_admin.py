"""The first administrator from the environment of the InfluxDB 1.x image; once, and harmless on a restart.

It is made together with the organization ``default`` and its database, in one batch; where that organization is there
already, nothing is done: an administrator who was dropped does not come back with the next restart. Source: the image's
documentation, ``INFLUXDB_ADMIN_USER``; decision 16.
"""

from __future__ import annotations

from common.errors import Invalid
from common.log import get_logger
from services.auth.access import mappings
from services.auth.config import AuthSettings
from services.auth.context import Context
from services.auth.entities.authorizations import Legacy
from services.auth.entities.orgs import Org
from services.auth.entities.users import INSTANCE_ID, OWNER, Member, Password, User
from services.auth.records.change import Change
from services.auth.resources import legacy, orgs
from services.auth.security import passwords
from services.auth.security.permissions import all_access
from services.auth.setup import onboarding
from services.auth.v1 import databases, users

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
        users.check_password(settings.v1_admin_password)
    except Invalid as error:
        raise Invalid(f"INFLUXDB_ADMIN_PASSWORD: {error}") from None
    if settings.v1_database:
        try:
            databases.check_names(settings.v1_database)
        except Invalid as error:
            raise Invalid(f"INFLUXDB_DB: {error}") from None
    return True


async def add(context: Context, change: Change, made: onboarding.Made | None) -> Legacy | None:
    """Add to *change* the administrator and its database; None = the organization ``default`` is there already.

    Args:
        made: what the same change sets up, None = nothing: its organization may be ``default`` itself.

    Raises:
        Unavailable: storage does not answer.
    """
    reader = context.records.reader()
    name, database = context.settings.v1_admin_user, context.settings.v1_database
    if await reader.find_unique(Org, Org.name_key(ORG)) is not None:
        log.info("the organization default is there: INFLUXDB_ADMIN_USER changes nothing")
        return None
    hashed = await context.passwords.hash(context.settings.v1_admin_password)
    if made is not None and (made.org.name == ORG or made.user.name == name):
        user = made.user
    else:
        stored = await reader.find_unique(User, User.name_key(name))
        if stored is not None:
            change.require(stored)
        user = stored or await _add_user(context, change, name, hashed, made)
    is_set_up = made is not None and made.org.name == ORG
    org = made.org if made is not None and is_set_up else orgs.add(context, change, ORG, "", user.id)
    admin = legacy.make(context, name, org.id, user.id, all_access(org.id, user.id))
    change.create(admin, Password(id=admin.id, hash=hashed))
    # The bucket that is set up may be that database by its name.
    has_database = made is not None and is_set_up and mappings.virtual_names(made.bucket.name)[0] == database
    if database and not has_database:
        databases.add_database(context, change, org.id, database)
    return admin


async def _add_user(context: Context, change: Change, name: str, hashed: str, made: onboarding.Made | None) -> User:
    """A user of the v2 API of the same name, who owns it all; on an instance that was never set up also that."""
    user = User(id=context.ids.sortable(), name=name)
    change.create(user)
    if made is None and await onboarding.is_allowed(context):
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
