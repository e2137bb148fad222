"""``python -m services.query``: run one query service until SIGTERM."""

from __future__ import annotations

import secrets

from common import log
from common.web import Server, run, run_until_stopped
from services.query.app import build
from services.query.config import QuerySettings


async def main() -> None:
    settings = QuerySettings()
    log.configure("query", secrets.token_hex(4), settings.log_level, settings.log_format)
    app = build(settings, lambda: server.url)
    server = Server(app, settings.internal_host, settings.query_port, settings.advertise_host)
    await run_until_stopped(server, "query")


if __name__ == "__main__":
    run(main, QuerySettings)
