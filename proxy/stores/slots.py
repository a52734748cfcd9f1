"""Which node of a cluster has a key: hash tags, slots, and the cluster's own table of them, as values."""

from collections.abc import Sequence
from typing import Self

from redis.crc import key_slot
from redis.exceptions import RedisError

from proxy.store_url import Node


class Slots:
    """Who has each slot: the ranges of the cluster's own table, and single slots that a node has corrected."""

    __slots__ = ("_moved", "_ranges")

    def __init__(self, ranges: Sequence[tuple[int, int, Node]] = ()) -> None:
        """Begin with ranges `(first slot, last slot, node)`."""
        self._ranges = ranges
        self._moved: dict[int, Node] = {}

    @classmethod
    def read(cls, reply: object, asked: Node) -> Self:
        """Read the reply to CLUSTER SLOTS; RedisError if it is none.

        A node that does not know its own address is at the one where it was asked.
        """
        if isinstance(reply, RedisError):
            raise reply
        if not isinstance(reply, list) or not reply:
            raise RedisError("it is a node of a cluster that has no slots yet")
        ranges = []
        for first, last, primary, *_ in reply:
            host = (primary[0] or b"").decode()
            ranges.append((first, last, Node(asked.host if host in ("", "?") else host, primary[1])))
        return cls(ranges)

    def owner(self, slot: int) -> Node | None:
        """Return the node that has a slot; None if nobody is known to have it."""
        moved = self._moved.get(slot)
        if moved is not None:
            return moved
        return next((node for first, last, node in self._ranges if first <= slot <= last), None)

    def nodes(self) -> list[Node]:
        """Return every node that has slots, in the order of their slots."""
        return list(dict.fromkeys((*(node for _, _, node in self._ranges), *self._moved.values())))

    def move(self, slot: int, node: Node) -> None:
        """Note that a slot is elsewhere."""
        self._moved[slot] = node

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self._ranges)


def tag_of(key: str) -> str:
    """Return what of a key decides its slot: what stands between its first braces, or all of it."""
    begin = key.find("{") + 1
    end = key.find("}", begin)
    return key[begin:end] if begin and end > begin else key


def slot_of(tag: str) -> int:
    """Return the slot of what `tag_of` returned."""
    return int(key_slot(tag.encode()))
