"""``python -m common.lineprotocol.compile [folder]``: compile the kernels into numba's cache, in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from common.lineprotocol.compiled import compile_all, compile_into

__all__ = ["compile_all"]


def main() -> int:
    if len(sys.argv) > 1:
        # Started by a service that is already answering in plain Python: it goes first.
        os.nice(5)
        compile_into(Path(sys.argv[1]))
    else:
        compile_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
