"""First set-up from the environment of the InfluxDB 2 image, then that of the 1.x image, once storage answers; harmless
on a restart.

Source: the image's documentation, ``DOCKER_INFLUXDB_INIT_*``.
"""

from __future__ import annotations

import asyncio

from common.errors import Conflict, InfluxError, Invalid, Unavailable
from common.log import get_logger
from services.auth import first_admin, setup
from services.auth.config import AuthSettings
from services.auth.context import Context

log = get_logger("first_start")
ASK_AGAIN_S = 0.2
REQUIRED = {
    "DOCKER_INFLUXDB_INIT_USERNAME": "init_username",
    "DOCKER_INFLUXDB_INIT_PASSWORD": "init_password",
    "DOCKER_INFLUXDB_INIT_ORG": "init_org",
    "DOCKER_INFLUXDB_INIT_BUCKET": "init_bucket",
}


def read_wanted(settings: AuthSettings) -> setup.Wanted | None:
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
        retention_s = setup.parse_duration_s(settings.init_retention)
    except Invalid as error:
        raise Invalid(f"DOCKER_INFLUXDB_INIT_RETENTION: {error}") from None
    return setup.Wanted(
        settings.init_username,
        settings.init_password,
        settings.init_org,
        settings.init_bucket,
        retention_s,
        settings.init_admin_token,
    )


class FirstStart:
    """Runs the set-up that the environment asks for; ``problem`` is what /ready shows."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.problem: str | None = None

    async def run(self) -> None:
        """Try until storage answers; a bad value is told and ends it."""
        try:
            wanted = read_wanted(self._context.settings)
            wants_admin = first_admin.is_wanted(self._context.settings)
            made = None
            if wanted is not None:
                self.problem = "waiting for storage to set up"
                made = await self._set_up(wanted)
            if wants_admin:
                self.problem = "waiting for storage to make the first administrator"
                await self._make_admin(made)
            self.problem = None
        except InfluxError as error:
            self.problem = f"first set-up failed: {error}"
            log.error("first set-up failed", reason=str(error))

    async def _set_up(self, wanted: setup.Wanted) -> setup.Made | None:
        while True:
            try:
                made = await setup.set_up(self._context, wanted)
            except Unavailable:
                await asyncio.sleep(ASK_AGAIN_S)
            except Conflict:
                log.info("set up before: the DOCKER_INFLUXDB_INIT settings change nothing")
                return None
            else:
                log.info("set up", user=made.user.name, org=made.org.name, bucket=made.bucket.name)
                return made

    async def _make_admin(self, made: setup.Made | None) -> None:
        while True:
            try:
                return await first_admin.ensure(self._context, made)
            except Unavailable:
                await asyncio.sleep(ASK_AGAIN_S)
