"""Rows about the head of a request: its first line, its target, its fields."""

from http_vectors import AUTHORIZED, BODY, CHAT, GET, HOST, JSON, SMUGGLED, Vector, chat, lines

START = "RFC 9112, 3: method SP request-target SP HTTP-version, with one SP each"
VERSION = "RFC 9112, 2.3: HTTP-version is case-sensitive and of two single digits"
MAJOR = "RFC 9110, 15.6.6: 505 for a version that is not spoken"
METHOD = "RFC 9110, 9.1: 501 for a method that is not known"
ORIGIN = "RFC 9112, 3.2: a server that is no proxy is asked by path"
GRAMMAR = "RFC 3986, 3.3 and 3.4: the characters of a path and of a query"
LONG = "RFC 9110, 15.5.15: 414 for a target that is too long"
NAME = "RFC 9110, 5.1: a field's name is a token"
COLON = "RFC 9112, 5.1: no whitespace between a field's name and its colon"
VALUE = "RFC 9110, 5.5: CR, LF and NUL in a field's value are dangerous and refused, and so are other controls"
FOLD = "RFC 9112, 5.2: a server refuses obsolete line folding"
LINE_END = "RFC 9112, 2.2: lines end with CRLF; a bare CR or LF ends none here"
BEFORE = "RFC 9112, 2.2: at most an empty line stands before a request"
LARGE = "RFC 6585, 5: 431 for fields that are too large"
HOSTS = "RFC 9112, 3.2: 400 for a missing, doubled or invalid Host"
ONCE = "RFC 9110, 5.3: a field that is no list comes once"
EXPECT = "RFC 9110, 10.1.1: 417 for an expectation that cannot be met"
CGI = "RFC 3875, 4.1.18: a name with underscores can be read as one with hyphens"


def first(line: str | bytes) -> bytes:
    """A request that is in order but for its first line."""
    return chat(first=line) + SMUGGLED


def target(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return first(b"POST " + raw + b" HTTP/1.1")


START_LINES = [
    Vector(name, rule, data, status, code)
    for name, rule, data, status, code in [
        ("two blanks before the target", START, first("POST  /v1/chat/completions HTTP/1.1"), 400, "invalid_http"),
        ("two blanks before the version", START, first("POST /v1/chat/completions  HTTP/1.1"), 400, "invalid_http"),
        ("a tab before the target", START, first("POST\t/v1/chat/completions HTTP/1.1"), 400, "invalid_http"),
        ("a tab before the version", START, first("POST /v1/chat/completions\tHTTP/1.1"), 400, "invalid_http"),
        ("a form feed between the parts", START, first("POST /v1/chat/completions\x0cHTTP/1.1"), 400, "invalid_http"),
        ("a blank before the method", START, first(" " + CHAT), 400, "invalid_http"),
        ("a blank behind the version", START, first(CHAT + " "), 400, "invalid_http"),
        ("a word behind the version", START, first(CHAT + " x"), 400, "invalid_http"),
        ("no target", START, first("POST HTTP/1.1"), 400, "invalid_http"),
        ("an empty target", START, first("POST  HTTP/1.1"), 400, "invalid_http"),
        ("a blank in the target", START, first("POST /v1/chat completions HTTP/1.1"), 400, "invalid_http"),
        ("no version", START, first("POST /v1/chat/completions"), 400, "invalid_http"),
        ("HTTP/0.9, a line and nothing else", START, b"GET /v1/models\r\n", 400, "invalid_http"),
        ("HTTP/0.9 with a bare LF", LINE_END, b"GET /v1/models\n", 400, "invalid_http"),
        ("a method with a bracket", START, first("PO(ST /v1/chat/completions HTTP/1.1"), 400, "invalid_http"),
        ("a method with a colon", START, first("POST: /v1/chat/completions HTTP/1.1"), 400, "invalid_http"),
        ("a method with a NUL", START, first("POST\0 /v1/chat/completions HTTP/1.1"), 400, "invalid_http"),
        ("a method beyond ASCII", START, first("PÖST /v1/chat/completions HTTP/1.1"), 400, "invalid_http"),
        ("a version in lower case", VERSION, first("POST /v1/chat/completions http/1.1"), 400, "invalid_http"),
        ("a version of one digit", VERSION, first("POST /v1/chat/completions HTTP/1"), 400, "invalid_http"),
        ("a version of three digits", VERSION, first("POST /v1/chat/completions HTTP/1.10"), 400, "invalid_http"),
        ("a version with a leading zero", VERSION, first("POST /v1/chat/completions HTTP/01.1"), 400, "invalid_http"),
        ("a version with a comma", VERSION, first("POST /v1/chat/completions HTTP/1,1"), 400, "invalid_http"),
        ("a version with a sign", VERSION, first("POST /v1/chat/completions HTTP/+1.1"), 400, "invalid_http"),
        ("a version of another protocol", VERSION, first("POST /v1/chat/completions HTTPS/1.1"), 400, "invalid_http"),
        ("a version of ICY", VERSION, first("POST /v1/chat/completions ICY/1.1"), 400, "invalid_http"),
        ("a version cut in two", VERSION, first("POST /v1/chat/completions HTTP/ 1.1"), 400, "invalid_http"),
        ("version 0.9", MAJOR, first("POST /v1/chat/completions HTTP/0.9"), 505, "http_version_not_supported"),
        ("version 1.2", MAJOR, first("POST /v1/chat/completions HTTP/1.2"), 505, "http_version_not_supported"),
        ("version 2.0", MAJOR, first("POST /v1/chat/completions HTTP/2.0"), 505, "http_version_not_supported"),
        ("version 3.0", MAJOR, first("POST /v1/chat/completions HTTP/3.0"), 505, "http_version_not_supported"),
        ("the preface of HTTP/2", MAJOR, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version_not_supported"),
        ("a greeting of TLS", START, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 32, 400, "invalid_http"),
        ("a greeting of the proxy protocol, 1", START, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 400, "invalid_http"),
        ("a greeting of the proxy protocol, 2", BEFORE, b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11", 400, "invalid_http"),
        ("a command of Redis", START, b"*1\r\n$4\r\nPING\r\n", 400, "invalid_http"),
        ("a command of SMTP", START, b"EHLO mail\r\n", 400, "invalid_http"),
        ("the greeting of SSH", START, b"SSH-2.0-OpenSSH_9.2\r\n", 400, "invalid_http"),
        ("two empty lines before the request", BEFORE, b"\r\n\r\n" + chat(), 400, "invalid_http"),
        ("a bare LF before the request", LINE_END, b"\n" + chat(), 400, "invalid_http"),
        ("a bare CR before the request", LINE_END, b"\r" + chat(), 400, "invalid_http"),
        ("a NUL before the request", START, b"\0" + chat(), 400, "invalid_http"),
        ("a byte order mark before the request", START, b"\xef\xbb\xbf" + chat(), 400, "invalid_http"),
        ("an unknown method", METHOD, first("BREW /v1/chat/completions HTTP/1.1"), 501, "not_implemented"),
        ("a method in lower case", METHOD, first("post /v1/chat/completions HTTP/1.1"), 501, "not_implemented"),
        ("a longer method", METHOD, first("POSTT /v1/chat/completions HTTP/1.1"), 501, "not_implemented"),
        ("a method of WebDAV", METHOD, first("PROPFIND /v1/models HTTP/1.1"), 501, "not_implemented"),
        ("CONNECT", METHOD, lines("CONNECT gateway:443 HTTP/1.1", HOST) + SMUGGLED, 501, "not_implemented"),
        ("CONNECT with a path", METHOD, first("CONNECT /v1/chat/completions HTTP/1.1"), 501, "not_implemented"),
    ]
]  # fmt: skip

_TARGETS: dict[str, tuple[str, str | bytes]] = {
    "the host is our own": (ORIGIN, "http://gateway/v1/chat/completions"),
    "the host is another": (ORIGIN, "http://elsewhere/v1/chat/completions"),
    "https": (ORIGIN, "https://gateway/v1/chat/completions"),
    "a file": (ORIGIN, "file:///etc/passwd"),
    "an asterisk": (ORIGIN, "*"),
    "an authority": (ORIGIN, "gateway:80"),
    "no slash before the path": (ORIGIN, "v1/chat/completions"),
    "a query alone": (ORIGIN, "?x=1"),
    "a fragment": (GRAMMAR, "/v1/chat/completions#a"),
    "a fragment behind a query": (GRAMMAR, "/v1/chat/completions?x=1#a"),
    "a backslash": (GRAMMAR, "\\v1\\chat\\completions"),
    "a backslash within": (GRAMMAR, "/v1\\chat/completions"),
    "a quotation mark": (GRAMMAR, '/v1/chat/completions"'),
    "angle brackets": (GRAMMAR, "/v1/<chat>/completions"),
    "braces": (GRAMMAR, "/v1/{chat}/completions"),
    "a bar": (GRAMMAR, "/v1|chat/completions"),
    "a caret": (GRAMMAR, "/v1/^chat/completions"),
    "a grave accent": (GRAMMAR, "/v1/`chat`/completions"),
    "square brackets": (GRAMMAR, "/v1/[chat]/completions"),
    "a tab": (GRAMMAR, "/v1/chat\t/completions"),
    "a NUL": (GRAMMAR, "/v1/chat/completions\0"),
    "a DEL": (GRAMMAR, "/v1/chat/completions\x7f"),
    "an escape character": (GRAMMAR, "/v1/chat/completions\x1b[0m"),
    "UTF-8": (GRAMMAR, "/v1/chat/complétions"),
    "Latin-1": (GRAMMAR, b"/v1/chat/compl\xe9tions"),
    "a percent sign alone": (GRAMMAR, "/v1/chat/completions%"),
    "half a percent-encoding": (GRAMMAR, "/v1/chat/completions%2"),
    "a percent-encoding of no digits": (GRAMMAR, "/v1/chat/completions%zz"),
    "a percent-encoding of sixteen bits": (GRAMMAR, "/v1/chat/completions%u0041"),
    "a wrong percent-encoding in the query": (GRAMMAR, "/v1/chat/completions?x=%"),
    "a control character in the query": (GRAMMAR, "/v1/chat/completions?x=\x01"),
    "a byte beyond ASCII in the query": (GRAMMAR, b"/v1/chat/completions?x=\xff"),
    "a bare CR": (LINE_END, "/v1/chat\r/completions"),
    "a bare LF": (LINE_END, "/v1/chat\n/completions"),
}
TARGETS = [
    *(Vector(f"a target: {name}", rule, target(text), 400) for name, (rule, text) in _TARGETS.items()),
    Vector("OPTIONS of everything", ORIGIN, lines("OPTIONS * HTTP/1.1", HOST) + SMUGGLED, 400),
    Vector("a path too long", LONG, target("/" + "a" * 8_000), 414, "uri_too_long"),
    Vector("a query too long", LONG, target("/v1/chat/completions?" + "a" * 8_000), 414, "uri_too_long"),
    Vector("a target without end", LONG, b"GET /" + b"a" * 9_000, 414, "uri_too_long"),
]

_FIELDS: dict[str, tuple[str, str | bytes]] = {
    "a blank before the colon": (COLON, "X-A : b"),
    "a tab before the colon": (COLON, "X-A\t: b"),
    "a blank before the colon of the length": (COLON, "Content-Length : 0"),
    "a blank before the colon of the coding": (COLON, "Transfer-Encoding : chunked"),
    "a folded field": (FOLD, "X-A: b\r\n c"),
    "a field folded with a tab": (FOLD, "X-A: b\r\n\tc"),
    "a folded coding": (FOLD, "Transfer-Encoding:\r\n chunked"),
    "a field folded into nothing": (FOLD, "X-A: b\r\n "),
    "no colon": (NAME, "X-A"),
    "an empty name": (NAME, ": b"),
    "a blank in the name": (NAME, "X A: b"),
    "a bracket in the name": (NAME, "X(A): b"),
    "a slash in the name": (NAME, "X/A: b"),
    "a quotation mark in the name": (NAME, 'X"A: b'),
    "an at sign in the name": (NAME, "X@A: b"),
    "a NUL in the name": (NAME, "X\0A: b"),
    "a control character in the name": (NAME, "X\x01A: b"),
    "a byte beyond ASCII in the name": (NAME, b"X\xe9A: b"),
    "a soft hyphen in the name of the length": (NAME, b"Content\xadLength: 0"),
    "a NUL in the value": (VALUE, "X-A: b\0c"),
    "a backspace in the value": (VALUE, "X-A: b\x08c"),
    "a vertical tab in the value": (VALUE, "X-A: \x0bb"),
    "a form feed in the value": (VALUE, "X-A: b\x0c"),
    "an escape character in the value": (VALUE, "X-A: b\x1b[2Jc"),
    "a DEL in the value": (VALUE, "X-A: b\x7f"),
    "a bare CR in the value": (LINE_END, "X-A: b\rc"),
    "a bare CR and a field in the value": (LINE_END, "X-A: b\rContent-Length: 0"),
    "a bare LF in the value": (LINE_END, "X-A: b\nContent-Length: 0"),
    "a CR too many at the end of a line": (LINE_END, "X-A: b\r\r\nX-B: c"),
    "Host twice": (HOSTS, HOST),
    "another Host": (HOSTS, "host: elsewhere"),
    "Content-Type twice": (ONCE, JSON),
    "another Content-Type": (ONCE, "content-type: text/plain"),
    "Content-Encoding twice": (ONCE, "Content-Encoding: identity\r\nContent-Encoding: gzip"),
    "Expect twice": (ONCE, "Expect: 100-continue\r\nExpect: 100-continue"),
    "a length with an underscore": (CGI, "Content_Length: 0"),
    "a coding with an underscore": (CGI, "transfer_encoding: chunked"),
    "a media type with an underscore": (CGI, "Content_Type: text/plain"),
    "a content coding with an underscore": (CGI, "CONTENT_ENCODING: gzip"),
}
_HOSTS: dict[str, str | bytes] = {
    "empty": "Host:",
    "blank": "Host: \t ",
    "a path": "Host: gateway/v1",
    "a user": "Host: user@gateway",
    "a blank within": "Host: gate way",
    "a list": "Host: gateway, elsewhere",
    "a port of letters": "Host: gateway:http",
    "a port without digits": "Host: gateway:",
    "a port of six digits": "Host: gateway:123456",
    "two ports": "Host: gateway:80:80",
    "an open bracket": "Host: [::1",
    "an address of version 6 without brackets": "Host: ::1",
    "letters beyond ASCII": "Host: gäteway",
    "a byte beyond ASCII": b"Host: gate\xffway",
    "a percent-encoding": "Host: gate%77ay",
    "a query": "Host: gateway?x",
    "a quotation mark": 'Host: "gateway"',
    "a tag": "Host: <script>",
    "a variable": "Host: ${jndi:ldap}",
}
FIELDS = [
    *(Vector(f"a field: {name}", rule, chat(text) + SMUGGLED, 400) for name, (rule, text) in _FIELDS.items()),
    *(Vector(f"a host: {name}", HOSTS, chat(host=text) + SMUGGLED, 400) for name, text in _HOSTS.items()),
    Vector("no host", HOSTS, lines(GET) + SMUGGLED, 400),
    Vector("a blank before the first field", FOLD, lines(GET, " X-A: b", HOST) + SMUGGLED, 400),
    Vector("all lines end with LF", LINE_END, b"GET /v1/models HTTP/1.1\nHost: gateway\n\n" + SMUGGLED, 400),
    Vector("one line ends with LF", LINE_END, b"GET /v1/models HTTP/1.1\nHost: gateway\r\n\r\n" + SMUGGLED, 400),
    Vector("the empty line ends with LF", LINE_END, b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\n" + SMUGGLED, 400),
    Vector("all lines end with CR", LINE_END, b"GET /v1/models HTTP/1.1\rHost: gateway\r\r", 400),
    Vector("a field too large", LARGE, chat("X-A: " + "b" * 17_000), 431, "request_header_too_large"),
    Vector("fields too large together", LARGE, chat(*[f"X-{n}: {'b' * 900}" for n in range(20)]), 431,
           "request_header_too_large"),
    Vector("too many fields", LARGE, chat(*[f"X-{n}: b" for n in range(101)]), 431, "request_header_too_large"),
    Vector("fields without end", LARGE, lines(GET, HOST)[:-2] + b"X-A: b\r\n" * 2_100, 431, "request_header_too_large"),
    Vector("a name without end", LARGE, lines(GET, HOST)[:-2] + b"x" * 17_000, 431, "request_header_too_large"),
    Vector("two keys", "RFC 9110, 11.6.2: one Authorization", chat(AUTHORIZED), 401, "invalid_api_key"),
    Vector("two keys, the second wrong", "RFC 9110, 11.6.2: one Authorization", chat("authorization: Bearer x"), 401,
           "invalid_api_key"),
    Vector("an unknown expectation", EXPECT, chat("Expect: 200-ok"), 417, "expectation_failed"),
    Vector("a list of expectations", EXPECT, chat("Expect: 100-continue, 200-ok"), 417, "expectation_failed"),
    Vector("an empty expectation", EXPECT, chat("Expect:"), 417, "expectation_failed"),
]  # fmt: skip

OLD = "POST /v1/chat/completions HTTP/1.0"
TAKEN = [
    Vector(name, rule, data, 200, None, closed)
    for name, rule, data, closed in [
        ("a plain request", "RFC 9112, 3", chat(), False),
        ("an empty line before the request", BEFORE, b"\r\n" + chat(), False),
        ("an empty line behind the body", BEFORE, chat() + b"\r\n", False),
        ("a query", GRAMMAR, chat(first="POST /v1/chat/completions?beta=true&x=%00/?@ HTTP/1.1"), False),
        ("a slash at the end", "the URLs that there are", chat(first="POST /v1/chat/completions/ HTTP/1.1"), False),
        ("a name with an underscore that decides nothing", NAME, chat("session_id: 1"), False),
        ("bytes beyond ASCII in a value that decides nothing", "RFC 9110, 5.5: opaque data", chat(b"X-Title: \xe9\xff"),
         False),
        ("an empty value", "RFC 9110, 5.5", chat("X-A:", "X-B: \t "), False),
        ("names in any case", "RFC 9110, 5.1", lines(CHAT, "HOST: g", "aUTHORIZATION: Bearer KEY",
                                                     f"content-LENGTH: {len(BODY)}", body=BODY), False),
        ("no media type", "the media types that are taken", lines(CHAT, HOST, AUTHORIZED,
                                                                  f"Content-Length: {len(BODY)}", body=BODY), False),
        ("a host with a port", HOSTS, chat(host="Host: gateway:8080"), False),
        ("a host of version 6", HOSTS, chat(host="Host: [::1]:8080"), False),
        ("a host with an underscore", HOSTS, chat(host="Host: my_gateway"), False),
        ("an offer of another protocol", "RFC 9110, 7.8: an offer may be ignored",
         chat("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"), False),
        ("a client that closes", "RFC 9112, 9.6", chat("Connection: close"), True),
        ("HTTP/1.0", "RFC 9112, 9.3: without keep-alive", chat(first=OLD), True),
        ("HTTP/1.0 that asks for keep-alive", "RFC 9112, 9.3", chat("Connection: keep-alive", first=OLD), True),
        ("HTTP/1.0 without a host", HOSTS, lines(OLD, AUTHORIZED, f"Content-Length: {len(BODY)}", body=BODY), True),
        ("an expectation of HTTP/1.0", "RFC 9110, 10.1.1: ignored in HTTP/1.0", chat("Expect: any", first=OLD), True),
    ]
]  # fmt: skip
