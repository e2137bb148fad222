"""python -m services.gateway"""

from __future__ import annotations

import resource
import secrets

from common import log, web
from common.messages import GATEWAY
from services.gateway.app import GUARD, build
from services.gateway.config import GatewaySettings
from services.gateway.protocol import GuardedSite


async def main() -> None:
    settings = GatewaySettings()
    log.configure(GATEWAY, f"{GATEWAY}-{secrets.token_hex(4)}", settings.log_level, settings.log_format)
    raise_open_files()
    app = build(settings)
    server = web.Server(app, settings.host, settings.port)
    await web.run_until_stopped(server, GATEWAY, lambda runner, socket: GuardedSite(runner, socket, app[GUARD]))


def raise_open_files() -> None:
    """Take as many open files as the system lets us have: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    web.run(main, GatewaySettings)
