"""Settings of auth, the environment names of the InfluxDB 2 image among them."""

from __future__ import annotations

from pydantic import Field

from common.config import ServiceSettings


class AuthSettings(ServiceSettings):
    """What auth is told."""

    auth_port: int = Field(8092, description="Port on which auth listens.")
    token_key: str = Field(
        "",
        description="Key under which tokens are hashed, at least 32 bytes; a lost one makes every token worthless. "
        "Empty = token.key in the folder of the keys, made at first start.",
    )
    secrets_key: str = Field(
        "",
        description="Key under which the secrets of organizations are encrypted, at least 32 bytes. What others, after "
        "commas, encrypted is encrypted anew at the start (rotation). Empty = secrets.key in the folder of the keys, "
        "made at first start.",
    )
    bcrypt_cost: int = Field(
        10, ge=4, le=16, description="Cost of password hashes; each step doubles the time (10 = 0.12 s)."
    )
    max_password_checks: int = Field(
        64, ge=1, description="Password checks that may wait for one of the two threads; past it 503."
    )
    max_wrong_passwords: int = Field(
        10,
        ge=0,
        description="Wrong passwords in a minute, for a name and from an address, after which the next ones are "
        "answered 429; 0 = no limit.",
    )
    audit_log: str = Field(
        "",
        description="Where security events are written, one JSON line each: a file, stderr or off; "
        "empty = audit.log in the data folder.",
    )
    audit_max_bytes: int = Field(
        16 << 20, ge=4096, description="Size at which the file of security events is put aside; four old ones stay."
    )
    password_cache_s: float = Field(
        300,
        ge=0,
        description="How long a right password is remembered (as a keyed hash): the next check costs nothing.",
    )
    strong_passwords: bool = Field(
        False, description="Passwords must hold three of: uppercase, lowercase, numbers, special characters."
    )
    session_length_m: int = Field(60, ge=1, description="Minutes that a session lives.")
    session_renew: bool = Field(True, description="Whether use of a session prolongs it, to 5 minutes from then.")
    session_max_m: int = Field(
        0, ge=0, description="Minutes after sign-in at which a session ends, used or not; 0 = use prolongs it for ever."
    )
    max_sessions_per_user: int = Field(
        64, ge=1, description="Sessions that one user may have; a new one ends the oldest."
    )
    jwt_secret: str = Field(
        "", description="Shared secret of 1.x tokens (JWT), 32 bytes or more; under 16 bytes they are not accepted."
    )
    influxdb_jwt_secret: str = Field(
        "",
        validation_alias="INFLUXDB_HTTP_SHARED_SECRET",
        description="The same under its 1.x name; TIDEGATE_JWT_SECRET wins.",
    )
    auth_cache_entries: int = Field(20_000, ge=16, description="Entries of each of auth's caches.")

    v1_admin_user: str = Field(
        "",
        validation_alias="INFLUXDB_ADMIN_USER",
        description="Name of a first 1.x administrator, made once in the organization default.",
    )
    v1_admin_password: str = Field(
        "", validation_alias="INFLUXDB_ADMIN_PASSWORD", description="Its password, 1 to 72 bytes."
    )
    v1_database: str = Field(
        "", validation_alias="INFLUXDB_DB", description="Database that is made together with that administrator."
    )
    v1_auth_enabled: str = Field(
        "",
        validation_alias="INFLUXDB_HTTP_AUTH_ENABLED",
        description="Read for the sake of the 1.x image's environment: credentials are always asked for.",
    )

    init_mode: str = Field(
        "",
        validation_alias="DOCKER_INFLUXDB_INIT_MODE",
        description="setup = make the first user, organization, bucket and operator token at the first start.",
    )
    init_username: str = Field("", validation_alias="DOCKER_INFLUXDB_INIT_USERNAME", description="First user.")
    init_password: str = Field(
        "", validation_alias="DOCKER_INFLUXDB_INIT_PASSWORD", description="Its password, 8 to 72 bytes."
    )
    init_org: str = Field("", validation_alias="DOCKER_INFLUXDB_INIT_ORG", description="First organization.")
    init_bucket: str = Field("", validation_alias="DOCKER_INFLUXDB_INIT_BUCKET", description="First bucket.")
    init_retention: str = Field(
        "",
        validation_alias="DOCKER_INFLUXDB_INIT_RETENTION",
        description="Its retention, e.g. 0, 7d, 1w, 72h30m; 0 or empty = for ever.",
    )
    init_admin_token: str = Field(
        "",
        validation_alias="DOCKER_INFLUXDB_INIT_ADMIN_TOKEN",
        description="Value of the operator token; empty = a random one that nobody learns: sign in and make tokens.",
    )
