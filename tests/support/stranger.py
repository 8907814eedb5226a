"""Somebody who calls a gRPC server without being anybody: what the server says to that.

gRPC is HTTP/2 (RFC 9113); a call is a frame of headers and one with a message.
"""

import re
import socket

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


def _header(name: str, text: str) -> bytes:
    """A literal header that nobody remembers (RFC 7541, 6.2.2)."""
    return b"\0" + b"".join(bytes([len(part)]) + part.encode() for part in (name, text))


def status(port: int, method: str, token: str | None = None) -> int:
    """gRPC's code of the answer to a call of `/package.Service/Method` with an empty message."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "stranger",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    block = b"".join(_header(name, text) for name, text in headers.items())
    said = b""
    with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0)
            + _frame(_HEADERS, _END_HEADERS, 1, block)
            + _frame(_DATA, _END_STREAM, 1, bytes(5))
        )
        while (found := re.search(rb"grpc-status.(\d{1,2})", said, re.DOTALL)) is None:
            new = connection.recv(65536)
            assert new, said
            said += new
    return int(found[1])
