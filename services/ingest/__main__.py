"""``python -m services.ingest``: run one ingest until SIGTERM."""

from __future__ import annotations

import secrets

from common import log
from common.web import Server, run, run_until_stopped
from services.ingest.app import build
from services.ingest.config import IngestSettings


async def main() -> None:
    settings = IngestSettings()
    log.configure("ingest", secrets.token_hex(4), settings.log_level, settings.log_format)
    app = build(settings, lambda: server.url)
    server = Server(app, settings.internal_host, settings.ingest_port, settings.advertise_host)
    await run_until_stopped(server, "ingest")


if __name__ == "__main__":
    run(main, IngestSettings)
