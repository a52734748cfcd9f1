"""The command `import`: reads another gateway's configuration, writes our two files, and says what did not come along.

What becomes of what is in `proxy/litellm/`. A file that is there already is left alone unless told otherwise, and no
credential is ever written.
"""

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from proxy.admin.documents import Document, as_text
from proxy.admin.refused import OperationRefused, Reason
from proxy.cli_outside import Outside
from proxy.litellm.document import read
from proxy.litellm.importing import CATALOG, GATEWAY, Imported, convert

_DONE: Final = 0
_FAILED: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def perform(args: argparse.Namespace, config: Path, outside: Outside) -> int:
    """Convert one file, write what came of it, and return the exit code; raises what cannot be read or written."""
    _ = config  # what is imported becomes one
    source, folder = Path(args.file), Path(args.out)
    targets = [folder / name for name in (GATEWAY, CATALOG)]
    there = [target for target in targets if os.path.lexists(target)]
    if there and not args.force:
        raise OperationRefused(
            Reason.CONFLICT, f"{there[0]} is there already: name another folder with --out, or replace it with --force"
        )
    today = (_EPOCH + timedelta(milliseconds=outside.clock())).date().isoformat()
    imported = convert(read(source), source.name, today)
    if imported.files:
        folder.mkdir(parents=True, exist_ok=True)
        for target in targets:
            _write(target, imported.files[target.name], replace=args.force)
    if args.json:
        print(as_text(_document(imported, source, folder)))
    else:
        _tell(imported, source, folder)
    return _DONE if imported.files else _FAILED


def _write(target: Path, text: str, *, replace: bool) -> None:
    """Write a file whole or not at all."""
    new = target.with_name(f".{target.name}.new")
    new.write_text(text, "utf-8")
    try:
        if replace:
            new.replace(target)
        else:
            os.link(new, target)  # fails if somebody else has made one meanwhile
    finally:
        new.unlink(missing_ok=True)


def _document(imported: Imported, source: Path, folder: Path) -> Document:
    notes = [{"line": note.line, "path": note.place, "note": note.what} for note in imported.notes]
    return {
        "ok": bool(imported.files),
        "file": str(source),
        "written": [str(folder / name) for name in imported.files],
        "models": imported.models,
        "providers": imported.providers,
        "variables": list(imported.variables),
        "notes": notes,
    }


def _tell(imported: Imported, source: Path, folder: Path) -> None:
    for note in imported.notes:
        print(f"{source}:{note.line}: {note.place or 'the file'}: {note.what}")
    if not imported.files:
        print("aion-proxy: nothing was written: no model could be imported (see above)", file=sys.stderr)
        return
    print(f"Written: {folder / GATEWAY} and {CATALOG}. Models: {imported.models}; providers: {imported.providers}.")
    if imported.variables:
        print(f"Set these variables, or the same with _FILE at the end: {', '.join(imported.variables)}")
    print(f"Then try it: aion-proxy check --config {folder / GATEWAY}")
