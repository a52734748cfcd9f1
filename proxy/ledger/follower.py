"""Reads one process's journal on disk, while it is being written and after its writer has died.

Where it is lies in memory only: who begins anew reads every segment that is still there again, which changes nothing,
because a row goes into the ledger once. A segment goes when its rows are safe, oldest first.
"""

from typing import Final

from proxy.journal_frames import scan
from proxy.journal_records import Replay, decode
from proxy.ledger.segments import Folder, sync
from proxy.usage_record import UsageRecord

CHUNK: Final = 512 * 1024


class Follower:
    """Follows the journal in one folder from its oldest segment on."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.ended = False
        """Everything that its dead writer left was read."""
        self.damage = 0
        """Places that could not be read, in what was read last."""
        self._replay = Replay()
        self._number = min(folder.numbers(), default=1)
        self._at = 0
        self._damaged = False
        self._passed: list[tuple[int, bool]] = []
        """Segments that were read to their end, and whether anything in them could not be read."""

    def read(self, rows: list[UsageRecord], *, final: bool) -> bool:
        """Read on, and add the rows that are certain now; False if there is nothing more at the moment.

        `final`: its writer has died, so that what is incomplete remains so.
        """
        self.damage = 0
        if self.ended:
            return False
        following = self._following()  # looked up before the file is read: the writer leaves one for good when it is
        last = following is None
        path = self.folder.segment(self._number)
        try:
            with path.open("rb") as file:
                file.seek(self._at)
                data = file.read(CHUNK)
                whole = not file.read(1)
        except FileNotFoundError:  # its writer had not come that far, or it was removed already
            data, whole = b"", True
        found = scan(data, final=whole and (final or not last))
        self._at += found.consumed
        self.damage += bool(found.skipped)
        for payload in found.payloads:
            record = decode(payload)
            if record is None:
                self.damage += 1
            else:
                rows += self._replay.take(record)
        self._damaged |= self.damage > 0
        if not whole:
            return True
        if following is not None:
            self._passed.append((self._number, self._damaged))
            self._number, self._at, self._damaged = following, 0, False
            return True
        if final:
            rows += self._replay.lost()
            self._passed.append((self._number, self._damaged))
            self.ended = True
        return False

    def forget(self) -> None:
        """Remove what was read to its end, now that all rows of it are safe."""
        while self._passed:
            number, damaged = self._passed[0]
            following = self._following(number)
            if following is not None:  # it has what was carried out of this one, and must not be lost with the power
                sync(self.folder.segment(following))
                sync(self.folder.path)
            self.folder.forget(number, damaged=damaged)
            del self._passed[0]
        if self.ended:
            self.folder.remove()

    def _following(self, number: int | None = None) -> int | None:
        current = self._number if number is None else number
        return next((other for other in self.folder.numbers() if other > current), None)
