"""The image's health check: ``python -m services.healthcheck [url]`` ends with 0 when the service answers /health.

Without a URL it asks the gateway of this container.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request


def main(arguments: list[str]) -> int:
    url = arguments[0] if arguments else f"http://127.0.0.1:{os.environ.get('TIDEGATE_PORT', '8086')}/health"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own service
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
