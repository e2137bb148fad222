"""Settings: environment → one frozen object per service.

Every setting ``TIDEGATE_X`` may be given as a file ``TIDEGATE_X_FILE`` that holds the value (secrets of compose and
Kubernetes). docs/settings.md is generated from the classes that derive from here.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from common.rpc.wire import Keys

PREFIX = "TIDEGATE_"


class CannotStart(ValueError):
    """Something that was given can't be worked with; the message names it, never a secret."""


def faults(error: ValidationError, settings: type[BaseSettings]) -> list[str]:
    """One line for each setting that can't be used: its name and why, without its value."""
    names = {
        key: " or ".join(env_names(name, field))
        for name, field in settings.model_fields.items()
        for key in (name, str(field.validation_alias))
    }
    return [
        f"{names.get(str(fault['loc'][0]) if fault['loc'] else '', 'settings')}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    ]


class _FileTwins(PydanticBaseSettingsSource):
    """Reads ``TIDEGATE_<FIELD>_FILE``: the value is the file's text without its last line end."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        for name in env_names(field_name, field):
            path = os.environ.get(f"{name}_FILE")
            if path:
                try:
                    return Path(path).read_text().rstrip("\r\n"), field_name, False
                except (OSError, UnicodeDecodeError) as error:
                    raise CannotStart(f"{name}_FILE: cannot read {path}: {_reason(error)}") from None
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                # A field with an alias is read under that alias.
                values[field.validation_alias if isinstance(field.validation_alias, str) else key] = value
        return values


def env_names(field_name: str, field: FieldInfo) -> tuple[str, ...]:
    """The environment names of a setting."""
    alias = field.validation_alias
    return (alias,) if isinstance(alias, str) else (f"{PREFIX}{field_name.upper()}",)


class ServiceSettings(BaseSettings):
    """What every service is told."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    data: Path = Field(
        Path("data"), description="Data folder: SQLite files, and the keys unless TIDEGATE_KEYS names a place."
    )
    keys: str = Field("", description="Folder of the key files; empty = the data folder.")
    internal_host: str = Field("127.0.0.1", description="Address on which the internal services listen.")
    advertise_host: str = Field(
        "",
        description="Host name under which other services reach this one; empty = the listening address, "
        "or this machine's own where that is 0.0.0.0.",
    )
    storage_url: str = Field("http://127.0.0.1:8091", description="Where storage listens.")
    auth_url: str = Field("http://127.0.0.1:8092", description="Where auth listens.")
    internal_key: str = Field(
        "",
        description="Key that signs internal calls, at least 32 bytes; a second one after a comma is accepted too "
        "(rotation). Empty = internal.key in the folder of the keys, made at first start.",
    )
    shared_memory: str = Field(
        "/dev/shm",  # noqa: S108
        description="Folder in memory in which storage tells query services of the same machine what has changed; "
        "empty, or not there: they ask it each time.",
    )
    log_level: str = Field(
        "info", pattern="^(?i:debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: str = Field("json", pattern="^(json|console)$", description="json or console.")
    memory_bytes: int = Field(
        0, ge=0, description="Byte budget of each service for bodies and caches; 0 = min(25 % of the memory, 1 GiB)."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _FileTwins(settings_cls)

    @property
    def keys_folder(self) -> Path:
        """Where the key files are."""
        return Path(self.keys) if self.keys else self.data

    @property
    def budget_bytes(self) -> int:
        """The byte budget of this process (decision 16)."""
        if self.memory_bytes:
            return self.memory_bytes
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min(total // 4, 1 << 30)


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def load_keys(settings: ServiceSettings) -> Keys:
    """The keys of internal calls: given, or read from (at first start: made in) the data folder."""
    if settings.internal_key:
        keys = tuple(key.strip().encode() for key in settings.internal_key.split(",") if key.strip())
    else:
        path = settings.keys_folder / "internal.key"
        try:
            keys = (load_or_make_key(path),)
        except OSError as error:
            raise CannotStart(f"cannot read or make the key {path}: {_reason(error)}") from None
    if not keys or any(len(key) < 32 for key in keys):
        raise CannotStart("TIDEGATE_INTERNAL_KEY must hold keys of at least 32 bytes")
    return Keys(keys[0], keys)


def load_or_make_key(path: Path, size: int = 32) -> bytes:
    """A random key kept in a file of mode 0600; many processes may ask at the same time and get the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(size).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # fails if another process was first: then its key counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes().strip()
