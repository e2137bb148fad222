"""``python -m services.verify``: reads all of a stopped data folder and lists what is damaged.

Lies above storage. Exit code 0: all is as it was written; 1: something is damaged, a line each on standard output,
``bucket id, measurement, first time, time after the last, what``, separated by tabs; 2: it could not be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time

from common import log
from common.folder_lock import FolderHeld
from common.times import format_rfc3339
from services.storage.catalog.interface import UnusableCatalog
from services.storage.config import StorageSettings
from services.storage.recovery.verify import Finding, Verification

OK, DAMAGED, NOT_POSSIBLE = range(3)


def line(finding: Finding) -> str:
    """One finding as it is printed."""
    times = ["" if ns is None else format_rfc3339(ns) for ns in (finding.start_ns, finding.stop_ns)]
    cells = [finding.bucket, finding.measurement, *times, finding.reason]
    return "\t".join(cell.encode("utf-8", "surrogateescape").decode(errors="backslashreplace") for cell in cells)


async def run(verification: Verification) -> int:
    """Print what is found; returns how much."""
    found = 0
    async for finding in verification.run():
        print(line(finding), flush=True)
        found += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m services.verify",
        description="Read all of the data folder that TIDEGATE_DATA names and list damage. Stop Tidegate first.",
    )
    parser.parse_args()
    # What a start says of damage is printed as findings.
    log.configure("verify", secrets.token_hex(4), "critical", "json")
    settings = StorageSettings()
    if not settings.data.is_dir():
        print(f"cannot verify: there is no folder {settings.data}", file=sys.stderr)
        sys.exit(NOT_POSSIBLE)
    verification = Verification(settings.data)
    began_s = time.monotonic()
    try:
        found = asyncio.run(run(verification))
    except (FolderHeld, UnusableCatalog, OSError) as error:
        print(f"cannot verify: {error}", file=sys.stderr)
        sys.exit(NOT_POSSIBLE)
    looked = verification.looked
    print(
        f"{looked.measurements} measurements, {looked.series} series, {looked.segments} segments, {looked.chunks} "
        f"chunks, {looked.rows} rows, {looked.bytes} bytes in {time.monotonic() - began_s:.1f} s: "
        + (f"{found} damaged" if found else "all is well"),
        file=sys.stderr,
    )
    sys.exit(DAMAGED if found else OK)


if __name__ == "__main__":
    main()
