#!/bin/sh
# Installs what the tests (or, with "bench", the benchmark) need and PyPI has not, where it can: apt-get as root.
# Where it can't, the tests concerned are skipped and name the package (with CI=true such a skip is a failure).
want="influx:influxdb-client npm:npm"
[ "${1:-}" = bench ] && want="$want influxd:influxdb victoria-metrics:victoria-metrics"
missing=""
for pair in $want; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    # A package that starts a server at once would take a port of ours: nothing is started.
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 ||
        echo "could not install:$missing" >&2
else
    echo "not installed, and this user can't:$missing (Debian packages)" >&2
fi
exit 0
