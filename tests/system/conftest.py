"""The real InfluxDB that answers are compared with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.servers import Influx
from tests.conftest import need


@pytest.fixture(scope="session")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """InfluxDB 1.6.7, shared by the tests of one worker: each makes databases of its own."""
    need("influxd", "influxdb")
    server = Influx(tmp_path_factory.mktemp("influx") / "data")
    server.start()
    yield server
    server.stop()
