"""Compile the hot loops once, at install or image build: ``python -m services.compile``.

Each module that has some offers ``compile_all()``; the results land in numba's cache beside the sources (or in
NUMBA_CACHE_DIR). A service that finds no cache works all the same, more slowly, until its own compilation is done.
"""

from __future__ import annotations

import importlib
import sys
import time

MODULES = ("common.lineprotocol.compile", "services.query.compile")


def main() -> int:
    started = time.monotonic()
    for name in MODULES:
        importlib.import_module(name).compile_all()
    print(f"hot loops compiled in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
