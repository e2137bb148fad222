"""What deploy/ promises, read from its files: the compose schema, who is published, who may do what in a container."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.procfile import parse_procfile
from tests.conftest import need
from tests.stack import ROOT

COMPOSE = yaml.safe_load((ROOT / "deploy" / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SERVICES = ("gateway", "auth", "ingest", "query", "storage")
# A package of the npm registry that carries the schema of compose files.
SCHEMA_PACKAGE, SCHEMA_MEMBER = "dclint@3.1.0", "package/schemas/compose.schema.json"


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("schema")
    subprocess.run(
        [need("npm", "npm"), "pack", "--silent", SCHEMA_PACKAGE],
        cwd=folder, check=True, capture_output=True, timeout=100, env={**os.environ, "npm_config_cache": str(folder)},
    )  # fmt: skip
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile(SCHEMA_MEMBER)
        assert member is not None
        return json.load(member)


def test_the_compose_file_is_valid(schema: Any) -> None:
    jsonschema.validate(COMPOSE, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**COMPOSE, "services": {"gateway": {"imagee": "x"}}}, schema)


def test_only_the_proxy_is_published() -> None:
    assert {name for name, service in COMPOSE["services"].items() if "ports" in service} == {"proxy"}
    assert COMPOSE["networks"]["internal"] == {"internal": True}
    for name in SERVICES:
        assert COMPOSE["services"][name]["networks"] == ["internal"]


def test_the_containers_say_the_same_as_the_procfile() -> None:
    commands = {
        line.name: line.command.removeprefix("exec ") for line in parse_procfile((ROOT / "Procfile").read_text())
    }
    assert {name: " ".join(COMPOSE["services"][name]["command"]) for name in SERVICES} == commands


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_than_it_needs(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    volumes = {volume.partition(":")[0] for volume in service["volumes"]}
    assert volumes == {"keys"} | {"storage": {"data", "memory"}, "query": {"memory"}}.get(name, set())


def test_storage_and_query_share_memory() -> None:
    volume = COMPOSE["volumes"]["memory"]["driver_opts"]
    assert (volume["type"], volume["device"]) == ("tmpfs", "tmpfs")
    for name in ("storage", "query"):
        service = COMPOSE["services"][name]
        assert f"memory:{service['environment']['TIDEGATE_SHARED_MEMORY']}" in service["volumes"]


def test_ingest_can_be_scaled() -> None:
    # A fixed container name or a published port would forbid --scale.
    assert not {"container_name", "ports", "hostname"} & set(COMPOSE["services"]["ingest"])


def test_the_image_is_not_root_and_keeps_the_folder_of_the_influxdb_image() -> None:
    assert re.search(r"^USER tidegate$", DOCKERFILE, re.MULTILINE)
    assert "TIDEGATE_DATA=/var/lib/influxdb2" in DOCKERFILE
    assert re.search(r'^CMD \["python", "-m", "services"\]$', DOCKERFILE, re.MULTILINE)
    assert "EXPOSE 8086" in DOCKERFILE


def test_nothing_secret_is_written_into_the_image_or_the_compose_file() -> None:
    assert not re.search(r"(?i)(password|token|secret|key)\s*=\s*\S", DOCKERFILE)
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN", name):
                assert value == f"${{{name}:-}}"


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    text = (ROOT / "deploy" / "docker-compose.yml").read_text()
    example = (ROOT / "deploy" / "env.example").read_text()
    for name in set(re.findall(r"\$\{([A-Z_]+)", text)) - {"TIDEGATE_IMAGE"}:
        assert re.search(rf"^{name}=", example, re.MULTILINE), name


def test_the_proxy_logs_no_query_string_and_bounds_nothing_that_the_gateway_bounds() -> None:
    conf = (ROOT / "deploy" / "reverse-proxy.conf").read_text()
    log_format = re.search(r"log_format tidegate (.*?);", conf, re.DOTALL)
    assert log_format is not None
    assert not re.search(r"\$(request\b|request_uri|args|query_string)", log_format[1])
    assert "client_max_body_size 0;" in conf
    assert "proxy_request_buffering off;" in conf
    assert Path(ROOT / "deploy" / "env.example").exists()
