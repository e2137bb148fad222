"""``python -m services.storage``: run storage until SIGTERM. Ends with status 1 when it can't use the data folder."""

from __future__ import annotations

import secrets
import sys

from common import log
from common.folder_lock import FolderHeld
from common.web import Server, run, run_until_stopped
from services.storage.app import build
from services.storage.catalog.interface import UnusableCatalog
from services.storage.config import StorageSettings


async def main() -> None:
    settings = StorageSettings()
    log.configure("storage", secrets.token_hex(4), settings.log_level, settings.log_format)
    try:
        server = Server(build(settings), settings.internal_host, settings.storage_port, settings.advertise_host)
        await run_until_stopped(server, "storage")
    except FolderHeld as error:
        sys.exit(f"storage can't start: {error}")
    except (OSError, UnusableCatalog) as error:
        sys.exit(f"storage can't start with the data folder {settings.data}: {error}")


if __name__ == "__main__":
    run(main, StorageSettings)
