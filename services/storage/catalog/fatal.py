"""The end of the process when going on would lie about what is stored."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from common.log import get_logger

log = get_logger("storage")
EXIT_FATAL = 74  # EX_IOERR


def end_process(reason: str) -> NoReturn:
    """End this process at once: no clean-up may touch the file; the next start recovers from the log."""
    log.critical("storage ends: what is on disk is not known any more", reason=reason)
    sys.stderr.flush()
    os._exit(EXIT_FATAL)
