"""What a check is: a clause, a sentence, the requests that it needs, and a judge of their answers.

A judge is a function whose docstring is the sentence; it returns what it saw or raises `Violation`. Here too: how
checks are chosen by their clauses. Nothing here asks anything.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.conformance.exchange import Ask, NoReply, Reply, Violation

_CLAUSE: Final = re.compile(r"[A-Z]([0-9]+(\.[0-9]+)?)?")


@dataclass(frozen=True, slots=True)
class Passed:
    """The rule holds as far as this shows."""

    seen: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The rule is broken."""

    seen: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """What the rule is about did not come up."""

    seen: str


Verdict = Passed | Failed | Skipped
Asking = Callable[[str], Ask]
"""Writes a request for the model of this name."""
Judge = Callable[..., Verdict]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    clause: str
    sentence: str
    asks: tuple[Asking, ...]
    judge: Judge

    def verdict(self, replies: Sequence[Reply | NoReply]) -> Verdict:
        """Judge the answers to `asks`, in their order; whatever goes wrong is a failure that says so."""
        missing = [f"{reply.asked.what}: {reply.why}" for reply in replies if isinstance(reply, NoReply)]
        if missing:
            return Failed(missing[0])
        try:
            return self.judge(*replies)
        except Violation as broken:
            return Failed(str(broken))
        except Exception as error:  # noqa: BLE001 - an answer that no judge was prepared for breaks a rule as well
            summaries = "; ".join(reply.summary for reply in replies if isinstance(reply, Reply))
            return Failed(f"the answer has a form that cannot be judged ({type(error).__name__}): {summaries}")


def check(clause: str, *asks: Asking) -> Callable[[Judge], Check]:
    """Make a check of the judge that follows; it is called with one reply for each of `asks`."""

    def made(judge: Judge) -> Check:
        return Check(clause, " ".join((judge.__doc__ or "").split()), asks, judge)

    return made


def chosen(checks: Iterable[Check], only: Sequence[str]) -> tuple[Check, ...]:
    """Return the checks of these clauses and all below them (`A`, `A1`, `A1.4`); ValueError for one that none has."""
    checks = tuple(checks)
    for wanted in only:
        if not any(_belongs(one.clause, wanted) for one in checks):
            raise ValueError(f"no check has the clause {wanted}: see `aion-proxy conformance --list`")
    return tuple(one for one in checks if not only or any(_belongs(one.clause, wanted) for wanted in only))


def place_of(clause: str) -> list[str | int]:
    """Return a clause as its letter and numbers, in which form clauses have an order."""
    return [int(word) if word.isdigit() else word for word in re.findall(r"[A-Z]|[0-9]+", clause)]


def _belongs(clause: str, wanted: str) -> bool:
    place = place_of(wanted)
    return _CLAUSE.fullmatch(wanted) is not None and place_of(clause)[: len(place)] == place
