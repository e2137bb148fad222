from __future__ import annotations

import json

import pytest

from common.errors import BY_CODE, Invalid, MethodNotAllowed, NotFound, TooManyRequests, Unauthorized, Unavailable
from services.gateway.dialects import Layout, dress, layout_of


def test_a_v2_error_is_code_and_message_on_one_line() -> None:
    headers, body = dress(NotFound('bucket "x" not found'), "v2")
    assert body == b'{"code":"not found","message":"bucket \\"x\\" not found"}'
    assert headers == {"Content-Type": "application/json; charset=utf-8", "X-Platform-Error-Code": "not found"}


def test_resources_indent_with_tabs() -> None:
    _, body = dress(Unauthorized("unauthorized access"), "v2", Layout.TABS)
    assert body == b'{\n\t"code": "unauthorized",\n\t"message": "unauthorized access"\n}'


def test_a_v1_error_speaks_to_clients_of_both_generations() -> None:
    headers, body = dress(Unauthorized("Unauthorized"), "v1")
    assert json.loads(body) == {"code": "unauthorized", "message": "Unauthorized", "error": "Unauthorized"}
    assert headers["X-Influxdb-Error"] == "Unauthorized"
    assert headers["WWW-Authenticate"] == 'Basic realm="InfluxDB"'


def test_v2_never_asks_for_basic() -> None:
    assert "WWW-Authenticate" not in dress(Unauthorized("x"), "v2")[0]


@pytest.mark.parametrize("error", [Unavailable("x", retry_after_s=None), Unavailable("x"), TooManyRequests("x")])
def test_own_troubles_say_when_to_come_again(error: Unavailable | TooManyRequests) -> None:
    assert int(dress(error, "v1")[0]["Retry-After"]) >= 1


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert dress(MethodNotAllowed("allow: OPTIONS, POST"), "v1")[0]["Allow"] == "OPTIONS, POST"


def test_html_is_escaped_as_go_does_it() -> None:
    _, body = dress(Invalid("a<b>&c\u2028"), "v2")
    assert body == b'{"code":"invalid","message":"a\\u003cb\\u003e\\u0026c\\u2028"}'


@pytest.mark.parametrize("text", ["line\r\nX-Evil: 1", "\x1b[31m", "a\0b", "x" * 5000, "\udcff", "é\n"])
@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_no_text_breaks_a_header_or_the_body(text: str, dialect: str) -> None:
    headers, body = dress(Invalid(text), dialect)
    json.loads(body)
    for value in headers.values():
        assert value.isprintable()
        assert len(value) <= 512
        value.encode()


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_code_has_a_dress(code: str) -> None:
    for dialect in ("v1", "v2"):
        assert json.loads(dress(BY_CODE[code]("text"), dialect)[1])["code"] == code


@pytest.mark.parametrize(
    ("path", "layout"),
    [
        ("/write", Layout.COMPACT),
        ("/query", Layout.COMPACT),
        ("/api/v2/write", Layout.COMPACT),
        ("/api/v2/query/ast", Layout.COMPACT),
        ("/api/v2/variables/1", Layout.COMPACT),
        ("/api/v2/telegrafs", Layout.COMPACT),
        ("/api/v2/buckets", Layout.TABS),
        ("/api/v2/signin", Layout.TABS),
        ("/api/v2/nothing", Layout.TABS),
        ("/private/legacy/authorizations", Layout.TABS),
        ("/legacy/authorizations/1", Layout.TABS),
    ],
)
def test_layouts(path: str, layout: Layout) -> None:
    assert layout_of(path) is layout
