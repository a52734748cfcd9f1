"""The files that pages load: read, hashed and compressed once, and kept by browsers for ever under their hash."""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".txt": "text/plain"}
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    name: str
    version: str
    body: bytes
    packed: bytes
    content_type: str


class Assets:
    """All files of the folder."""

    def __init__(self, found: Iterable[Asset]) -> None:
        """Keep them."""
        self._by_name = {asset.name: asset for asset in found}

    def url(self, name: str) -> str:
        """Return where a page finds a file; KeyError for one that is not there."""
        return f"/static/{self._by_name[name].version}/{name}"

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with a file; the URL of an old version leads to nothing, so that no cache mixes two."""
        asset = self._by_name.get(request.match_info["name"])
        if asset is None or asset.version != request.match_info["version"]:
            raise web.HTTPNotFound
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Encoding",
            **({"Content-Encoding": "gzip"} if packed else {}),
        }
        body = asset.packed if packed else asset.body
        return web.Response(body=body, content_type=asset.content_type, charset="utf-8", headers=headers)


def read_assets() -> Assets:
    """Read them all; this takes some milliseconds and belongs into a thread."""
    return Assets(_read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES)


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    version = sha256(body).hexdigest()[:_DIGITS]
    return Asset(path.name, version, body, gzip.compress(body, mtime=0), _TYPES[path.suffix])
