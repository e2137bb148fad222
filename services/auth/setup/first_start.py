"""First set-up from the environment of the InfluxDB 2 image and that of the 1.x image, once storage answers: one batch,
so that a crash leaves all or nothing of it; harmless on a restart and in many replicas.

Source: the image's documentation, ``DOCKER_INFLUXDB_INIT_*``.
"""

from __future__ import annotations

import asyncio

from common.errors import Conflict, InfluxError, Invalid, Unavailable
from common.log import get_logger
from services.auth.config import AuthSettings
from services.auth.context import Context
from services.auth.records.change import Change, KeyTaken, Stale
from services.auth.security.audit import OK
from services.auth.setup import first_admin, onboarding

log = get_logger("first_start")
ASK_AGAIN_S = 0.2
MAX_LOST = 5
REQUIRED = {
    "DOCKER_INFLUXDB_INIT_USERNAME": "init_username",
    "DOCKER_INFLUXDB_INIT_PASSWORD": "init_password",
    "DOCKER_INFLUXDB_INIT_ORG": "init_org",
    "DOCKER_INFLUXDB_INIT_BUCKET": "init_bucket",
}


def read_wanted(settings: AuthSettings) -> onboarding.Wanted | None:
    """What the environment asks to set up, or None. Raises Invalid; its text holds no secret."""
    mode = settings.init_mode
    if not mode:
        return None
    if mode == "upgrade":
        raise Invalid(
            "DOCKER_INFLUXDB_INIT_MODE=upgrade is not supported: set up with mode setup, then export the data of "
            "InfluxDB 1.x as line protocol (influx_inspect export) and write it"
        )
    if mode != "setup":
        raise Invalid(f'DOCKER_INFLUXDB_INIT_MODE must be "setup", not "{mode}"')
    missing = [name for name, field in REQUIRED.items() if not getattr(settings, field)]
    if missing:
        raise Invalid(f"DOCKER_INFLUXDB_INIT_MODE=setup needs {', '.join(missing)}")
    try:
        retention_s = onboarding.parse_duration_s(settings.init_retention)
    except Invalid as error:
        raise Invalid(f"DOCKER_INFLUXDB_INIT_RETENTION: {error}") from None
    return onboarding.Wanted(
        settings.init_username,
        settings.init_password,
        settings.init_org,
        settings.init_bucket,
        retention_s,
        settings.init_admin_token,
    )


class FirstStart:
    """Makes what the environment asks for; ``problem`` is what /ready shows."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.problem: str | None = None

    async def run(self) -> None:
        """Try until storage answers; a bad value is told and ends it."""
        try:
            wanted = read_wanted(self._context.settings)
            wants_admin = first_admin.is_wanted(self._context.settings)
            if wanted is not None or wants_admin:
                self.problem = "waiting for storage to set up"
                await self._until_done(wanted, wants_admin)
            self.problem = None
        except InfluxError as error:
            self.problem = f"first set-up failed: {error}"
            log.error("first set-up failed", reason=str(error))

    async def _until_done(self, wanted: onboarding.Wanted | None, wants_admin: bool) -> None:
        """Raises Conflict when a name is taken by something else, time and again."""
        lost = 0
        while True:
            try:
                return await make(self._context, wanted, wants_admin)
            except Unavailable:
                pass
            except (Stale, KeyTaken) as error:
                # Most likely another auth was faster with the same: then there is nothing left to do.
                lost += 1
                if lost == MAX_LOST:
                    what = error.key.partition(":")[0] if isinstance(error, KeyTaken) else "others change the same"
                    raise Conflict(f"a name is taken ({what})") from None
            await asyncio.sleep(ASK_AGAIN_S)


async def make(context: Context, wanted: onboarding.Wanted | None, wants_admin: bool) -> None:
    """Set up, and make the first administrator, in one batch; what is there already is left alone.

    Raises:
        Stale, KeyTaken: another one was faster, with this or with something else: look again.
        Invalid, Unprocessable: a value can't be used.
        Unavailable: storage does not answer; it may have been made or not.
    """
    change = Change()
    made = admin = None
    if wanted is not None:
        if await onboarding.is_allowed(context):
            made = await onboarding.add(context, change, wanted)
        else:
            log.info("set up before: the DOCKER_INFLUXDB_INIT settings change nothing")
    if wants_admin:
        admin = await first_admin.add(context, change, made)
    if change.is_empty():
        return
    await context.records.change(change)
    if made is not None:
        context.audit.record(
            "setup", OK, source="environment", target=made.user.name, user_id=made.user.id, org_id=made.org.id,
            credential_id=made.token.id,
        )  # fmt: skip
        log.info("set up", user=made.user.name, org=made.org.name, bucket=made.bucket.name)
    if admin is not None:
        context.audit.record(
            "v1.first_admin", OK, source="environment", target=admin.name, user_id=admin.user_id, org_id=admin.org_id,
            credential_id=admin.id, database=context.settings.v1_database,
        )  # fmt: skip
        log.info("first administrator made", user=admin.name, org=first_admin.ORG)
