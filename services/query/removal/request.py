"""``query.delete``: the request of ``/api/v2/delete``, read, checked, done. Shapes: docs/rpc.md.

The body is checked before organization and bucket. Source: InfluxDB 2.x, "POST /api/v2/delete" as observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common import gojson
from common.errors import Forbidden, Invalid, NotFound
from common.identity import Identity
from common.model import MAX_TIME_NS, MIN_TIME_NS, Bucket
from common.rpc.client import RpcClient
from common.times import parse_rfc3339
from services.query.reading.held import Measured
from services.query.reading.reader import Reader
from services.query.removal.deletes import delete_all, delete_chosen
from services.query.removal.predicate import MEASUREMENT, Comparison, parse_predicate
from services.query.schema.where import Mask

PREFIX = "error decoding json body: "
_EXAMPLES = {"start": "2009-01-02T23:00:00Z", "stop": "2009-01-01T23:00:00Z"}
_TOO_EARLY = "invalid start time, start time must not be before 1677-09-21T00:12:43.145224194Z"
_TOO_LATE = "invalid stop time, stop time must not be after 2262-04-11T23:47:16.854775806Z"


@dataclass(frozen=True, slots=True)
class DeleteBody:
    """Both ends inclusive there, half open here."""

    start_ns: int
    stop_ns: int
    comparisons: tuple[Comparison, ...]


def parse_body(body: bytes) -> DeleteBody:
    """Read the body. Raises Invalid with InfluxDB's texts."""
    value = _decode(body)
    start_ns = _time(value, "start")
    stop_ns = _time(value, "stop")
    if start_ns < MIN_TIME_NS:
        raise Invalid(PREFIX + _TOO_EARLY)
    if stop_ns > MAX_TIME_NS:
        raise Invalid(PREFIX + _TOO_LATE)
    predicate = _text(value, "predicate")
    try:
        return DeleteBody(start_ns, stop_ns + 1, parse_predicate(predicate))
    except Invalid as error:
        raise Invalid(PREFIX + str(error)) from None


def _decode(body: bytes) -> dict[str, Any]:
    try:
        value = gojson.decode(body)
    except gojson.JsonError as error:
        raise Invalid(f"{PREFIX}{error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        what = f"{gojson.kind_of(value)} into Go value of type http.deleteRequestDecode"
        raise Invalid(f"{PREFIX}json: cannot unmarshal {what}")
    # As Go reads it: the letter case of a name does not matter.
    return {name.lower(): member for name, member in value.items()}


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        what = f"{gojson.kind_of(text)} into Go struct field deleteRequestDecode.{name} of type string"
        raise Invalid(f"{PREFIX}json: cannot unmarshal {what}")
    return text


def _time(value: dict[str, Any], name: str) -> int:
    text = _text(value, name)
    try:
        return parse_rfc3339(text)
    except Invalid:
        year = text[:4]
        if len(text) > 10 and year.isdecimal() and text[4] == "-" and "T" in text:
            # A time that is one, but not in 64 bits.
            if name == "start" and int(year) <= 1677:
                raise Invalid(PREFIX + _TOO_EARLY) from None
            if name == "stop" and int(year) >= 2262:
                raise Invalid(PREFIX + _TOO_LATE) from None
        raise Invalid(
            f"{PREFIX}invalid RFC3339Nano for field {name}, please format your time with RFC3339Nano format, "
            f"example: {_EXAMPLES[name]}"
        ) from None


class Deletes:
    """Does what ``/api/v2/delete`` asks."""

    def __init__(self, client: RpcClient, auth_url: str, reader: Reader) -> None:
        self._client = client
        self._auth_url = auth_url
        self._reader = reader

    async def delete(self, body: bytes, params: dict[str, str], identity: Identity) -> None:
        """Delete. Raises what the client is told."""
        asked = parse_body(body)
        if not params.get("org") and not params.get("orgID"):
            raise Invalid("Please provide either orgID or org")
        if not params.get("bucket") and not params.get("bucketID"):
            raise Invalid("Please provide either bucketID or bucket")
        bucket = await self._bucket(params)
        if not identity.may("write", "buckets", bucket.id, bucket.org_id):
            raise Forbidden("insufficient permissions to delete")
        if asked.start_ns >= asked.stop_ns:
            return
        names = await self._names(bucket, asked.comparisons)
        tags = [comparison for comparison in asked.comparisons if comparison.key != MEASUREMENT]
        if not tags:
            await delete_all(self._reader, bucket, names, asked.start_ns, asked.stop_ns)
        else:
            await delete_chosen(
                self._reader, bucket, names, lambda measured: choose(measured, tags), asked.start_ns, asked.stop_ns
            )

    async def _bucket(self, params: dict[str, str]) -> Bucket:
        by_id = params.get("bucketID", "")
        head = {"org": params.get("org", ""), "org_id": params.get("orgID", ""), "bucket": by_id or params["bucket"]}
        try:
            answer = (await self._client.call(self._auth_url, "auth.bucket", head, timeout_s=10, retry_for_s=1)).head
        except NotFound as error:
            if by_id and str(error).startswith("bucket "):
                raise NotFound("bucket not found") from None
            raise
        bucket = Bucket(*answer["bucket"])
        if by_id and bucket.id != by_id:
            raise NotFound("bucket not found")  # it is the name of one
        return bucket

    async def _names(self, bucket: Bucket, comparisons: Sequence[Comparison]) -> list[str]:
        about = [comparison for comparison in comparisons if comparison.key == MEASUREMENT]
        return [
            info.name
            for info in await self._reader.measurements(bucket)
            if all((info.name == comparison.value) is comparison.equal for comparison in about)
        ]


def choose(measured: Measured, comparisons: Sequence[Comparison]) -> Mask:
    """The series that have each tag that is compared, with a value that fits: one without the tag never does."""
    table = measured.table
    chosen = np.ones(table.count, np.bool_)
    for comparison in comparisons:
        codes = table.codes.get(comparison.key)
        if codes is None:
            return np.zeros(table.count, np.bool_)
        fits = (table.words[comparison.key] == comparison.value) == comparison.equal
        fits[:1] = False
        chosen &= fits[codes]
    return chosen
