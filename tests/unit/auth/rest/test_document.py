from __future__ import annotations

import pytest

from common.errors import Invalid
from services.auth.rest.document import Document


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b"  \n", "EOF"),
        (b"{", "unexpected EOF"),
        (b'{"a"', "unexpected EOF"),
        (b'{"a":', "unexpected EOF"),
        (b'{"a": "b', "unexpected EOF"),
        (b'{"a": 1', "unexpected EOF"),
        (b"tru", "unexpected EOF"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{a: 1}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a": 1 "b": 2}', "invalid character '\"' after object key:value pair"),
        (b'{"a": [1 2]}', "invalid character '2' after array element"),
        (b'{"a": "x\n"}', "invalid character '\\n' in string literal"),
        (b'{"a": "\\q"}', "invalid character 'q' in string escape code"),
        (b'{"a": NaN}', "invalid character 'N' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type object"),
    ],
)
def test_the_texts_are_those_of_gos_decoder(body: bytes, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        Document.parse(body)
    assert str(caught.value) == text


def test_only_the_first_value_counts_and_the_last_of_two_keys() -> None:
    assert Document.parse(b'{"a": "1", "a": "2"} trailing').text("a") == "2"


def test_names_of_members_are_read_in_any_letter_case_and_the_last_counts() -> None:
    document = Document.parse(b'{"orgid": "1", "ORGID": "2", "inner": {"EverySeconds": 3}, "list": [{"ID": "4"}]}')
    assert document.text("orgID") == "2"
    assert document.document("inner").integer("everySeconds") == 3
    assert [inner.text("id") for inner in document.documents("list") or ()] == ["4"]
    assert "OrgId" in document


def test_names_in_a_map_are_the_clients_own_and_a_null_there_is_empty() -> None:
    document = Document.parse(b'{"Properties": {"Color": "red", "color": null}}')
    assert document.text_map("properties") == {"Color": "red", "color": ""}
    with pytest.raises(Invalid, match=r"cannot unmarshal number into Go struct field \.properties of type string"):
        Document.parse(b'{"properties": {"a": 1}}').text_map("properties")


def test_null_is_absent() -> None:
    assert "a" not in Document.parse(b'{"a": null}')
    assert Document.parse(b"null").text("a") is None


def test_what_is_not_utf8_becomes_the_replacement_character() -> None:
    assert Document.parse(b'{"a": "\xff\\ud800\\ud83d\\ude00"}').text("a") == "\ufffd\ufffd\U0001f600"


@pytest.mark.parametrize("number", ["1.5", "9223372036854775808", "true", '"1"'])
def test_an_integer_is_an_int64(number: str) -> None:
    with pytest.raises(Invalid, match=r"into Go struct field \.a of type int64"):
        Document.parse(b'{"a": %s}' % number.encode()).integer("a")
