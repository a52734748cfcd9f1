"""What supervisor and worker say to each other: a JSON object per line over a socket pair. Only values and framing."""

import msgspec
from msgspec import Struct


class Files(Struct, frozen=True):
    """Where the supervisor keeps its copy of the files in force: those of the operator may have a mistake meanwhile."""

    gateway: str
    catalog: str


class Start(Struct, frozen=True, tag="start"):
    """The supervisor's first word: everything a worker needs that is not in the configuration's files."""

    files: Files
    slot: int
    store_url: str
    builtin_urls: dict[str, str]


class Reload(Struct, frozen=True, tag="reload"):
    """Serve by another configuration."""

    files: Files
    builtin_urls: dict[str, str]


class Stop(Struct, frozen=True, tag="stop"):
    """Stop accepting, finish what is open within `grace` seconds, cut the rest. A second one cuts at once."""

    grace: float


class State(Struct, frozen=True, tag="state"):
    """The worker's word: whether it would serve a request now, and if not, why."""

    ready: bool
    reasons: list[str]


ToWorker = Start | Reload | Stop


def write(message: ToWorker | State) -> bytes:
    """Write one message as a line."""
    return msgspec.json.encode(message) + b"\n"


def read_to_worker(line: bytes) -> ToWorker:
    """Read what a supervisor said."""
    message: ToWorker = msgspec.json.decode(line, type=ToWorker)
    return message


def read_state(line: bytes) -> State:
    """Read what a worker said."""
    return msgspec.json.decode(line, type=State)
