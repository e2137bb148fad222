"""What every format can do, and which one a request wants · pure. Source: spec/http-query-v1.md, 2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from common.times import EPOCH_UNITS
from services.query.render.document import Document


@dataclass(frozen=True, slots=True)
class Style:
    """How a request wants its answer.

    Attributes:
        epoch_ns: unit of times as integers; None = as text (CSV: ns).
        chunked: one document a chunk instead of one for all.
        pretty: JSON indented by four blanks.
    """

    epoch_ns: int | None = None
    chunked: bool = False
    pretty: bool = False


class Renderer(Protocol):
    """Prints the results of one request, in order. Each call gives the bytes that come next.

    ``begin``, then ``document`` any number of times, then ``end`` or ``fail`` for each statement; ``finish`` once.
    A copy made before ``begin`` can go on as if the statement had not begun.
    """

    content_type: str

    def begin(self, statement_id: int) -> bytes: ...

    def document(self, document: Document) -> bytes:
        """Raises Invalid when the format can't say a value."""
        ...

    def end(self) -> bytes: ...

    def fail(self, text: str) -> bytes: ...

    def finish(self) -> bytes: ...


def epoch_of(word: str) -> int | None:
    """The unit that the parameter ``epoch`` names: "" is text, an unknown word is nanoseconds."""
    return EPOCH_UNITS.get(word, 1) if word else None


JSON, CSV, TEXT_CSV, MSGPACK = "application/json", "application/csv", "text/csv", "application/x-msgpack"
# In the order in which a wildcard chooses.
_OFFERED = (JSON, CSV, TEXT_CSV, MSGPACK)


@lru_cache(maxsize=256)
def choose_type(accept: str) -> str:
    """The content type that an ``Accept`` header asks for: the first in its list (by q) that is served, else JSON."""
    wanted: list[tuple[float, str]] = []
    for entry in accept.split(","):
        type, *params = (part.strip().lower() for part in entry.split(";"))
        wanted.append((_quality(params), type))
    wanted.sort(key=lambda pair: -pair[0])
    for quality, type in wanted:
        if quality <= 0:
            continue
        for offered in _OFFERED:
            if type in (offered, "*/*", f"{offered.partition('/')[0]}/*"):
                return offered
    return JSON


def _quality(params: list[str]) -> float:
    for param in params:
        name, _, value = param.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0
