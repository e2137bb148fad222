"""Results → bytes in the format that was asked for."""

from __future__ import annotations

from services.query.render.as_csv import CsvRenderer
from services.query.render.as_json import json_renderer
from services.query.render.as_msgpack import msgpack_renderer
from services.query.render.renderer import CSV, MSGPACK, TEXT_CSV, Renderer, Style


def make_renderer(content_type: str, style: Style) -> Renderer:
    """The renderer of one request."""
    if content_type in (CSV, TEXT_CSV):
        return CsvRenderer(style, content_type)
    return msgpack_renderer(style) if content_type == MSGPACK else json_renderer(style)
