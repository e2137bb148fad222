"""python -m services.gateway"""

from __future__ import annotations

import resource
import secrets
import sys

from common import log, web
from common.messages import GATEWAY
from services.gateway.app import GUARD, build
from services.gateway.config import GatewaySettings
from services.gateway.protocol import GuardedSite

# For calls to other services, the log, the listening socket.
OWN_FILES = 512


async def main() -> None:
    settings = GatewaySettings()
    log.configure(GATEWAY, f"{GATEWAY}-{secrets.token_hex(4)}", settings.log_level, settings.log_format)
    most = connections_of(raise_open_files())
    if most < settings.max_connections:
        log.get_logger("start").warning("fewer connections than set: open files are bounded", connections=most)
        settings = settings.model_copy(update={"max_connections": most})
    app = build(settings)
    server = web.Server(app, settings.host, settings.port)
    await web.run_until_stopped(server, GATEWAY, lambda runner, socket: GuardedSite(runner, socket, app[GUARD]))


def raise_open_files() -> int:
    """Take as many open files as the system lets us have: each connection is one. Returns how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def connections_of(open_files: int) -> int:
    """How many clients may be connected, so that there is a file left for each call to another service."""
    return max(open_files - OWN_FILES, open_files // 2) if open_files > 0 else sys.maxsize


if __name__ == "__main__":
    web.run(main, GatewaySettings)
