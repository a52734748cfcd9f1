"""Rows about where a request ends (the ways of smuggling one), and about URLs and methods that there are none of."""

import gzip

from http_vectors import AUTHORIZED, BODY, CHAT, HOST, JSON, SMUGGLED, Vector, chat, chunk, chunks, lines, unframed

LENGTH = "RFC 9112, 6.3: 400 for an invalid Content-Length"
BOTH = "RFC 9112, 6.1: Content-Length and Transfer-Encoding together may be an attack"
CODING = "RFC 9112, 6.1: chunked is the last coding and applied once"
UNKNOWN = "RFC 9112, 6.1: 501 for a transfer coding that is not understood"
OLD = "RFC 9112, 6.1: HTTP/1.0 has no transfer codings"
CHUNK = "RFC 9112, 7.1: chunk-size CRLF chunk-data CRLF"
EXTENSION = "RFC 9112, 7.1.1: the length of extensions is limited"
TRAILER = "RFC 9110, 6.5.1: what frames, routes or authenticates stands in no trailer"
LARGE = "RFC 9110, 15.5.14: 413 for content that is too large"
URL = "no public route but the API's"
METHOD = "RFC 9110, 15.5.6: 405 with Allow"
ALL = chunk(BODY) + b"0\r\n\r\n"

_LENGTHS = {
    "a sign": "+61", "a minus": "-61", "a hexadecimal number": "0x3d", "a fraction": "61.0", "an exponent": "6e1",
    "a blank within": "6 1", "nothing": "", "a word": "many", "a list of the same": "61, 61",
    "a list of two": "61, 0", "an underscore": "6_1", "digits of another script": "\uff16\uff11", "a quotation": '"61"',
    "nineteen digits": "1" * 19, "a thousand digits": "9" * 1000, "a semicolon": "61;", "a vertical tab": "\x0b61",
}  # fmt: skip
LENGTHS = [
    *(Vector(f"a length: {name}", LENGTH, unframed(f"Content-Length: {text}"), 400) for name, text in _LENGTHS.items()),
    # Without a length there is no body (RFC 9112, 6.3), and no body is no JSON.
    Vector("no length", LENGTH, lines(CHAT, HOST, AUTHORIZED, JSON), 400, "invalid_json", closed=False),
    Vector(
        "a length of nothing",
        LENGTH,
        lines(CHAT, HOST, AUTHORIZED, JSON, "Content-Length: 0"),
        400,
        "invalid_json",
        closed=False,
    ),
    Vector("the same length twice", LENGTH, unframed("Content-Length: 61", "Content-Length: 61"), 400),
    Vector("two lengths", LENGTH, unframed("Content-Length: 61", "Content-Length: 0"), 400),
    Vector("two lengths, names in other cases", LENGTH, unframed("Content-Length: 61", "content-length: 5"), 400),
    Vector("three lengths", LENGTH, unframed("Content-Length: 0", "Content-Length: 61", "Content-Length: 0"), 400),
]

_CODINGS = {
    "chunked twice": ("chunked, chunked", 400), "chunked before gzip": ("chunked, gzip", 400),
    "chunked before identity": ("chunked, identity", 400), "nothing": ("", 400), "a comma alone": (",", 400),
    "a comma behind": ("chunked,", 400), "a comma before": (",chunked", 400), "a quotation": ('"chunked"', 400),
    "a parameter": ("chunked;q=1", 400), "a blank within": ("chun ked", 400), "a colon": ("chunked:", 400),
    "gzip": ("gzip", 501), "gzip before chunked": ("gzip, chunked", 501), "identity": ("identity", 501),
    "identity before chunked": ("identity, chunked", 501), "a letter before": ("xchunked", 501),
    "a letter behind": ("chunkedx", 501), "an unknown one": ("cow", 501), "a dash": ("chunked-", 501),
    "deflate": ("deflate", 501), "compress": ("compress", 501),
}  # fmt: skip
CODINGS = [
    *(
        Vector(f"a coding: {name}", UNKNOWN if status == 501 else CODING,
               unframed(f"Transfer-Encoding: {text}", body=ALL), status,
               "not_implemented" if status == 501 else "invalid_http")
        for name, (text, status) in _CODINGS.items()
    ),
    Vector("a coding with a control character", CODING, unframed("Transfer-Encoding: \x0bchunked", body=ALL), 400),
    Vector("a coding beyond ASCII", CODING, unframed("Transfer-Encoding: ch\u00fcnked", body=ALL), 400),
    Vector("a length, then chunks", BOTH, unframed("Content-Length: 61", "Transfer-Encoding: chunked", body=ALL), 400),
    Vector("chunks, then a length", BOTH, unframed("Transfer-Encoding: chunked", "Content-Length: 61", body=ALL), 400),
    Vector("a length of nothing, then chunks", BOTH,
           unframed("Content-Length: 0", "Transfer-Encoding: chunked", body=ALL), 400),
    Vector("chunks, then a length in the wrong form", BOTH,
           unframed("Transfer-Encoding: chunked", "Content-Length: x", body=ALL), 400),
    Vector("a length and a coding that is unknown", BOTH,
           unframed("Content-Length: 61", "Transfer-Encoding: xchunked"), 400),
    Vector("a length and an identity", BOTH, unframed("Content-Length: 61", "Transfer-Encoding: identity"), 400),
    Vector("two codings in two fields", CODING,
           unframed("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=ALL), 400),
    Vector("gzip and chunked in two fields", CODING,
           unframed("Transfer-Encoding: gzip", "Transfer-Encoding: chunked", body=ALL), 400),
    Vector("a coding that is empty and one that is not", CODING,
           unframed("Transfer-Encoding:", "transfer-encoding: chunked", body=ALL), 400),
    Vector("chunks of HTTP/1.0", OLD, unframed("Transfer-Encoding: chunked", body=ALL,
                                               first="POST /v1/chat/completions HTTP/1.0"), 400),
]  # fmt: skip

_CHUNKS: dict[str, tuple[str, bytes]] = {
    "no size": (CHUNK, chunk(BODY, b"")),
    "a sign": (CHUNK, chunk(BODY, b"+3d")),
    "a minus": (CHUNK, chunk(BODY, b"-3d")),
    "a prefix": (CHUNK, chunk(BODY, b"0x3d")),
    "a blank before": (CHUNK, chunk(BODY, b" 3d")),
    "a blank behind": (CHUNK, chunk(BODY, b"3d ")),
    "a tab behind": (CHUNK, chunk(BODY, b"3d\t")),
    "an underscore": (CHUNK, chunk(BODY, b"3_d")),
    "a letter that is no digit": (CHUNK, chunk(BODY, b"3g")),
    "nine digits": (CHUNK, chunk(BODY, b"00000003d")),
    "seventeen digits, for those who count in 64 bits": (CHUNK, chunk(BODY, b"1000000000000003d")),
    "a comma": (CHUNK, chunk(BODY, b"3d,3d")),
    "a NUL": (CHUNK, chunk(BODY, b"3d\0")),
    "a bare LF behind the size": (CHUNK, b"3d\n" + BODY + b"\r\n"),
    "a bare CR behind the size": (CHUNK, b"3d\r" + BODY + b"\r\n"),
    "a bare LF behind the data": (CHUNK, b"3d\r\n" + BODY + b"\n"),
    "a bare CR behind the data": (CHUNK, b"3d\r\n" + BODY + b"\r"),
    "nothing behind the data": (CHUNK, b"3d\r\n" + BODY),
    "two bytes too many": (CHUNK, b"3d\r\n" + BODY + b"xx\r\n"),
    "a byte too few": (CHUNK, b"3e\r\n" + BODY + b"\r\n"),
    "an extension without a name": (EXTENSION, chunk(BODY, extension=b";")),
    "an extension with a blank": (EXTENSION, chunk(BODY, extension=b" ; a=b")),
    "an extension with a bare LF": (EXTENSION, chunk(BODY, extension=b";a\nb")),
    "an extension with a bare CR": (EXTENSION, chunk(BODY, extension=b";a\rb")),
    "an extension with a NUL": (EXTENSION, chunk(BODY, extension=b";a=\0")),
    "an extension of an open quotation": (EXTENSION, chunk(BODY, extension=b';a="b')),
    "an extension too long": (EXTENSION, chunk(BODY, extension=b";a=" + b"b" * 300)),
    "a last size in the wrong form": (CHUNK, chunk(BODY) + b"0x0\r\n\r\n"),
    "a last chunk with a bare LF": (CHUNK, chunk(BODY) + b"0\n\n"),
    "an end with a bare LF": (CHUNK, chunk(BODY) + b"0\r\n\n"),
    "an end with a bare CR": (CHUNK, chunk(BODY) + b"0\r\n\r\r"),
    "a trailer without a colon": (TRAILER, chunk(BODY) + b"0\r\nX-A\r\n\r\n"),
    "a folded trailer": (TRAILER, chunk(BODY) + b"0\r\nX-A: b\r\n c\r\n\r\n"),
    "a trailer with a NUL": (TRAILER, chunk(BODY) + b"0\r\nX-A: \0\r\n\r\n"),
    "a trailer with a bare LF": (TRAILER, chunk(BODY) + b"0\r\nX-A: b\nX-B: c\r\n\r\n"),
    "a trailer with a length": (TRAILER, chunk(BODY) + b"0\r\nContent-Length: 0\r\n\r\n"),
    "a trailer with a coding": (TRAILER, chunk(BODY) + b"0\r\nX-A: b\r\ntransfer-encoding: chunked\r\n\r\n"),
    "a trailer with a host": (TRAILER, chunk(BODY) + b"0\r\nHost: elsewhere\r\n\r\n"),
    "a trailer with a key": (TRAILER, chunk(BODY) + b"0\r\nAuthorization: Bearer x\r\n\r\n"),
    "trailers too long": (TRAILER, chunk(BODY) + b"0\r\n" + b"X-A: b\r\n" * 600 + b"\r\n"),
}
CHUNKS = [Vector(f"chunks: {name}", rule, chunks(body), 400) for name, (rule, body) in _CHUNKS.items()]
CHUNKS += [
    Vector("the body of a request that wants none is framed wrongly", CHUNK,
           lines("GET /v1/models HTTP/1.1", HOST, "Transfer-Encoding: chunked", body=b"zz\r\n") + SMUGGLED, 400),
    Vector("a body too large by its length", LARGE,
           lines(CHAT, HOST, AUTHORIZED, JSON, "Content-Length: 34603008"), 413, "request_too_large"),
    Vector("a body too large by far", LARGE,
           lines(CHAT, HOST, AUTHORIZED, JSON, f"Content-Length: {'9' * 18}"), 413, "request_too_large"),
    Vector("a body too large, announced", LARGE,
           lines(CHAT, HOST, AUTHORIZED, "Content-Length: 34603008", "Expect: 100-continue"), 413, "request_too_large"),
    Vector("a body too large in chunks", LARGE,
           chunks(chunk(b" " * 40_000) * 30).removesuffix(SMUGGLED), 413, "request_too_large"),
    Vector("a body too large after decoding", LARGE,
           chat("Content-Encoding: gzip", body=gzip.compress(b" " * 2_000_000)), 413, "request_too_large"),
]  # fmt: skip

_PATHS = [
    "/", "//v1/chat/completions", "/v1//chat/completions", "/v1/chat//completions", "/v1/chat/completions//",
    "/v1/./chat/completions", "/v1/../v1/chat/completions", "/../v1/chat/completions", "/%2e%2e/v1/chat/completions",
    "/v1/chat%2Fcompletions", "/v1%2fchat/completions", "/v1/chat/completion%73", "/%76%31/chat/completions",
    "/V1/chat/completions", "/v1/Chat/Completions", "/v1/chat/completions;x=1", "/v1/chat/completions/x",
    "/v1/chat/completions.json", "/v1/chat/completions%00", "/v1/chat/completions%20", "/v1/chat/completions%0d%0a",
    "/v1/chat", "/v1", "/chat/completions", "/openai/v1/chat/completions", "/v1/completions", "/v1/embeddings",
    "/v1/files", "/healthz", "/readyz", "/metrics", "/admin", "/admin/keys", "/dashboard", "/favicon.ico", "/.env",
    "/.git/config", "/robots.txt", "/v1/responses/input_tokens", "/v1/responses/compact", "/v1/models%2Fsame",
]  # fmt: skip
URLS = [
    Vector(f"a URL: {path}", URL, chat(first=f"POST {path} HTTP/1.1"), 404, "unknown_url", False) for path in _PATHS
]
URLS += [
    Vector(f"a URL: {path}", URL, lines(f"GET {path} HTTP/1.1", HOST), 404, "model_not_found", False)
    for path in ("/v1/models/../chat/completions", "/v1/models/%2e%2e", "/v1/models/%00", "/v1/models//same")
]
METHODS = [
    Vector(f"{method} of {path}", METHOD, chat(first=f"{method} {path} HTTP/1.1"), 405, "method_not_allowed", False)
    for path, methods in {
        "/v1/chat/completions": ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"),
        "/v1/responses": ("GET", "PUT", "OPTIONS"),
        "/v1/models": ("POST", "PUT", "DELETE", "OPTIONS"),
        "/v1/models/same": ("POST", "DELETE"),
    }.items()
    for method in methods
]
MEDIA = [
    *(
        Vector(f"a media type: {kind or 'empty'}", "RFC 9110, 15.5.16: 415",
               lines(CHAT, HOST, AUTHORIZED, f"Content-Type: {kind}", f"Content-Length: {len(BODY)}", body=BODY), 415,
               "unsupported_media_type", False)
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                     "application/json; charset=utf-16", "application/jsonx", "json", "application/json, text/plain")
    ),
    *(
        Vector(f"a content coding: {coding or 'empty'}", "RFC 9110, 8.4: 415", chat(f"Content-Encoding: {coding}"), 415,
               "unsupported_media_type", False)
        for coding in ("", "compress", "gzip, gzip", "x-unknown", "sdch")
    ),
]  # fmt: skip
TAKEN = [
    Vector("chunks", CHUNK, chunks(ALL).removesuffix(SMUGGLED), 200, None, closed=False),
    Vector("chunks of a byte each", CHUNK, chunks(b"".join(chunk(bytes([byte])) for byte in BODY) + b"0\r\n\r\n")
           .removesuffix(SMUGGLED), 200, None, closed=False),
    Vector("sizes with leading zeros, in capitals", CHUNK,
           chunks(chunk(BODY, b"0000003D") + b"000\r\n\r\n").removesuffix(SMUGGLED), 200, None, closed=False),
    Vector("extensions", EXTENSION, chunks(chunk(BODY, extension=b';a;b=c;d="e;\\"f"') + b"0;g\r\n\r\n")
           .removesuffix(SMUGGLED), 200, None, closed=False),
    Vector("trailers", TRAILER, chunks(chunk(BODY) + b"0\r\nX-A: b\r\nX-B:\r\n\r\n").removesuffix(SMUGGLED), 200, None,
           closed=False),
    Vector("a coding in capitals", CODING, lines(CHAT, HOST, AUTHORIZED, "TRANSFER-ENCODING: CHUNKED", body=ALL), 200,
           None, closed=False),
    Vector("a length with leading zeros", LENGTH, unframed("Content-Length: 0061").removesuffix(SMUGGLED), 200, None,
           closed=False),
]  # fmt: skip
