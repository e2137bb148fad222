"""python -m services.auth"""

from __future__ import annotations

import secrets
import sys

from pydantic import ValidationError

from common import log
from common.web import Server, run, run_until_stopped
from services.auth.app import build
from services.auth.config import AuthSettings


async def main(settings: AuthSettings) -> None:
    server: Server

    def url() -> str | None:
        return server.url

    server = Server(build(settings, url), settings.internal_host, settings.auth_port, settings.advertise_host)
    await run_until_stopped(server, "auth")


def start() -> int:
    """Read the settings and serve; a setting that can't be used ends it with one clear line, without its value."""
    try:
        settings = AuthSettings()
        log.configure("auth", f"auth-{secrets.token_hex(4)}", settings.log_level, settings.log_format)
        run(lambda: main(settings))
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            print(f"auth: setting {'.'.join(map(str, fault['loc']))}: {fault['msg']}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"auth: cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(start())
