"""URLs and HTTP headers of the configuration: of providers, of the store, of the ledger.

What is checked here is that a value can be used safely where it is meant to go; nothing is looked up or connected to.
The credentials in these values appear in no message, which is why the rules about them live together.
"""

import re
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainValidator, SecretStr

from proxy.mistakes import Wrong
from proxy.sections import Kind
from proxy.store_url import read_store_url

EMBEDDED: Final = "embedded"
_TRACES_PATH: Final = "/v1/traces"
_LEDGER_SCHEMES: Final = ("postgresql",)
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_OUR_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "traceparent",
        "tracestate",
        "transfer-encoding",
    }
)


def parse_base_url(value: object) -> str | None:
    """Take a provider's base URL without its trailing slash; ValueError if it is none or holds more than it may."""
    if value is None:
        return None
    rule = Wrong("must be the URL of an OpenAI-compatible API, such as http://127.0.0.1:8000/v1")
    parts = _split(value, rule)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise rule
    if parts.username is not None or parts.password is not None:
        raise Wrong("must not hold a user name or password: use api_key")
    if parts.query or parts.fragment or set("?#") & set(str(value)):
        raise Wrong("must not hold a query or fragment")
    return str(value).rstrip("/")


def parse_collector(value: object) -> str | None:
    """Take the URL that traces are sent to; one without a path gets the standard's. ValueError if it is none."""
    if value is None:
        return None
    rule = Wrong("must be the URL of a collector, such as http://127.0.0.1:4318")
    parts = _split(value, rule)
    if parts.scheme not in ("http", "https") or not parts.hostname or set("?#") & set(str(value)):
        raise rule
    if parts.username is not None or parts.password is not None:
        raise Wrong("must not hold a user name or password: set the variable OTEL_EXPORTER_OTLP_HEADERS")
    return f"{str(value).rstrip('/')}{_TRACES_PATH}" if parts.path in ("", "/") else str(value)


def parse_store(value: object) -> str:
    """Take `embedded` or the URL of a server of the operator's; ValueError if it is neither."""
    if value != EMBEDDED:
        read_store_url(value)
    return str(value)


def parse_ledger(value: object) -> str:
    """Take `embedded` or the URL of a PostgreSQL database; ValueError if it is neither."""
    rule = Wrong("must be embedded, or a URL such as postgresql://user@127.0.0.1/usage")
    if value == EMBEDDED:
        return EMBEDDED
    if _split(value, rule).scheme not in _LEDGER_SCHEMES:
        raise rule
    return str(value)


def parse_secret(value: object) -> SecretStr | None:
    """Take a credential that a header can carry; ValueError, which never quotes it, for anything else."""
    if value is None or isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise Wrong("quote it", "is not text")
    if not value:
        raise Wrong("must hold the credential (is its variable set but empty?), or be left out", "is empty")
    if _HEADER_VALUE.fullmatch(value) is None:
        raise Wrong(
            "must be visible ASCII characters on one line",
            "holds characters that a header cannot carry (not shown here)",
        )
    return SecretStr(value)


def parse_header_value(value: object) -> SecretStr:
    """Take a header's value as `parse_secret` takes a credential; there must be one."""
    secret = parse_secret(value)
    if secret is None:
        raise Wrong("must be text", "is empty")
    return secret


def parse_header_name(value: object) -> str:
    """Take a header's name that a provider may be sent besides those the gateway sets; ValueError for any other."""
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise Wrong("must be a header's name, such as X-Title", "is not the name of a header")
    if value.lower() == "authorization":
        raise Wrong("use api_key and auth_header", "is a header that the gateway sets itself")
    if value.lower() in _OUR_HEADERS:
        raise Wrong("must be left out", "is a header that the gateway sets itself")
    return value


def _split(value: object, rule: Wrong) -> SplitResult:
    # The splitter drops tabs and newlines in silence, so they are refused before it sees them.
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
        raise rule
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise rule from None
    return parts


BaseUrl = Annotated[str | None, PlainValidator(parse_base_url), Kind("URL")]
CollectorUrl = Annotated[str | None, PlainValidator(parse_collector), Kind("URL")]
StoreUrl = Annotated[str, PlainValidator(parse_store), Kind("embedded | URL")]
LedgerUrl = Annotated[str, PlainValidator(parse_ledger), Kind("embedded | URL")]
Secret = Annotated[SecretStr | None, PlainValidator(parse_secret), Kind("secret text")]
HeaderName = Annotated[str, PlainValidator(parse_header_name)]
HeaderValue = Annotated[SecretStr, PlainValidator(parse_header_value), Kind("secret text")]
