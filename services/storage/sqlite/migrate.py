"""Brings a database file to the newest form: runs ``migrations/NNNN_*.sql`` that it has not had, each once."""

from __future__ import annotations

import sqlite3
from importlib import resources

from services.storage.catalog.interface import UnusableCatalog
from services.storage.sqlite.checksums import cells_checksum

# Of the file's header; tells `file` and us whose database it is.
APPLICATION_ID = 0x54444754  # "TDGT"


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, in order."""
    folder = resources.files("services.storage.sqlite") / "migrations"
    found = [
        (int(file.name.partition("_")[0]), file.read_text()) for file in folder.iterdir() if file.name.endswith(".sql")
    ]
    return sorted(found)


def migrate(connection: sqlite3.Connection) -> None:
    """Run the missing migrations, each in a transaction. Raises UnusableCatalog on a newer or a foreign file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (tables or application):
        raise UnusableCatalog("the database in the data folder is not Tidegate's")
    known = migrations()
    if version > known[-1][0]:
        raise UnusableCatalog(
            f"the database has form {version}, this version of Tidegate knows forms up to {known[-1][0]}: "
            "it was written by a newer one"
        )
    connection.create_function("cells_checksum", -1, cells_checksum, deterministic=True)
    for number, sql in known:
        if number > version:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA application_id={APPLICATION_ID};\n"
                f"PRAGMA user_version={number};\nCOMMIT;"
            )
