"""Frames → a Parquet file, through pieces on disk, so that memory holds one batch whatever the size of the file.

The pieces lie in a folder beside the file, for the types of a query's columns are known only at its end; the file takes
its name when it is whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

import polars as pl

from services.export.tables import Batch

ROW_GROUP_ROWS = 1 << 17
# Characters of a measurement's name that stand in a file's name as they are.
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_. ")
MAX_NAME_BYTES = 200


class ParquetFile:
    """A file in the making.

    Args:
        categories: columns that are written as dictionaries.
    """

    def __init__(self, path: Path, categories: Collection[str]) -> None:
        self._path = path
        self._categories = categories
        self._pieces: list[Path] = []
        self.rows = 0

    def __enter__(self) -> ParquetFile:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix=f".{self._path.name[:64]}.", dir=self._path.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, batch: Batch) -> None:
        """Write the rows of *batch* behind those before."""
        piece = Path(self._folder.name) / f"{len(self._pieces)}.arrow"
        batch.frame().write_ipc(piece, compression="lz4")
        self._pieces.append(piece)
        self.rows += batch.rows

    def finish(self) -> None:
        """Put the pieces together and give the file its name; without rows there is none."""
        if not self._pieces:
            return
        whole = pl.concat([pl.scan_ipc(piece) for piece in self._pieces], how="diagonal_relaxed")
        schema = whole.collect_schema()
        # A column of which no row has a value has no type, and Parquet none for it.
        whole = whole.with_columns(
            *(pl.col(name).cast(pl.String) for name, type in schema.items() if type == pl.Null()),
            *(pl.col(name).cast(pl.Categorical) for name in self._categories),
        )
        made = Path(self._folder.name) / "whole"
        whole.sink_parquet(made, compression="zstd", row_group_size=ROW_GROUP_ROWS, statistics=True)
        made.replace(self._path)


def file_name(measurement: str) -> str:
    """A name for the file of *measurement*: other characters as ``%`` and two hex digits, as in a URL."""
    raw = measurement.encode("utf-8", "surrogateescape")
    text = "".join(chr(byte) if chr(byte) in PLAIN else f"%{byte:02X}" for byte in raw)[:MAX_NAME_BYTES]
    return f"{'%2E' + text[1:] if text.startswith('.') else text}.parquet"
