"""The admin token: what the environment says, else a file of the data directory that is made at the first start."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

VARIABLE: Final = "AION_PROXY_ADMIN_TOKEN"
FILE: Final = "admin-token"
_BYTES: Final = 24
_SHORTEST: Final = 12


class BadAdminToken(Exception):  # noqa: N818 - the state of the token
    """The token cannot be used; the message says what to do, and holds none of it."""


def admin_token(given: str | None, data_dir: Path, random: Callable[[int], bytes]) -> str:
    """Return the admin token, made and kept for this user alone if there is none yet. Raises `BadAdminToken`."""
    if given is not None:
        return _good(given, VARIABLE)
    path = data_dir / FILE
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = f"aion-admin-{random(_BYTES).hex()}"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return _good(path.read_text("utf-8"), str(path))
        with open(file, "w", encoding="utf-8") as opened:  # noqa: PTH123 - a descriptor, so that nobody else can read it
            opened.write(f"{new}\n")
        return new
    except OSError as error:
        raise BadAdminToken(
            f"{path} cannot be read or made ({error.strerror}): make it readable for this user, or set {VARIABLE}"
        ) from None
    except UnicodeDecodeError:
        raise BadAdminToken(f"{path} is not text: remove it, and the next start makes another") from None


def _good(text: str, place: str) -> str:
    token = text.strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise BadAdminToken(
            f"{place} holds no admin token: it must be at least {_SHORTEST} ASCII characters without spaces, "
            "such as `openssl rand -hex 24` prints"
        )
    return token
