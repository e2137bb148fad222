"""Internal calls: msgpack over HTTP, signed; both sides, their framing and their connections. Source: docs/rpc.md."""
