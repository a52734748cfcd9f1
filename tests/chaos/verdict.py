"""The ledger against the oracle: pure. Every row must be one that the plan, the provider and the client explain.

What can be known to the token is demanded to the token; where a process died or a client left, the row must lie between
what the client had read and what the provider had sent.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oracle import Served
from plan import Fault, Planned
from traffic import Seen

PROMPT_PRICE = "0.0000008"
COMPLETION_PRICE = "0.0000016"
PUSD_PER_PROMPT_TOKEN = 800_000
PUSD_PER_COMPLETION_TOKEN = 1_600_000


@dataclass(slots=True)
class Verdict:
    """What does not agree, each finding as a sentence."""

    lost: list[str] = field(default_factory=list)
    """Requests that reached the provider and have no row."""
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Rows with amounts that nothing explains."""
    invented: list[str] = field(default_factory=list)
    """Rows of requests that never reached the provider."""

    def findings(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.doubled, *self.wrong, *self.invented]


def judge(
    plan: Callable[[int], Planned],
    served: Mapping[int, Served],
    seen: Mapping[int, Seen],
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
) -> Verdict:
    """Compare the rows, by the number of their request, with what both ends of the gateway know."""
    verdict = Verdict()
    for number, record in served.items():
        if record.asked and not rows.get(number):
            verdict.lost.append(
                f"request {number}: reached the provider, has no row; the client saw {seen.get(number)}"
            )
    for number, found in rows.items():
        if len(found) > 1:
            verdict.doubled.append(f"request {number}: {len(found)} rows: {[row['request_id'] for row in found]}")
        if not served.get(number, Served()).asked:
            if found[0]["ending"] == "crashed":
                continue  # written down before the provider is asked, and nobody is left who knows that it was not
            verdict.invented.append(f"request {number}: has a row, never reached the provider: {found[0]}")
            continue
        for row in found:
            wrong = fault_of(row, plan(number), served[number], seen.get(number, Seen()))
            if wrong:
                verdict.wrong.append(f"request {number}: {wrong}: {dict(row)}; {served[number]}; {seen.get(number)}")
    return verdict


def fault_of(row: Mapping[str, Any], plan: Planned, served: Served, seen: Seen) -> str | None:
    """Say what is wrong with one row, or None."""
    tokens_used = (row["prompt_tokens"], row["completion_tokens"])
    if row["cost_pusd"] != tokens_used[0] * PUSD_PER_PROMPT_TOKEN + tokens_used[1] * PUSD_PER_COMPLETION_TOKEN:
        return "the cost is not tokens times prices"
    if (row["price_prompt"], row["price_completion"]) != (PROMPT_PRICE, COMPLETION_PRICE):
        return "these are not the prices"
    told = (plan.reported_prompt, plan.reported_completion)
    if row["usage_source"] == "upstream":
        return None if served.told_usage and tokens_used == told else "is not what the provider told"
    if row["usage_source"] == "none":
        # A gateway that stopped had sent nothing of such an answer: its client was told to try again.
        given_up = (row["ending"], row["status"], seen.text_bytes) == ("cancelled", 503, 0)
        unpaid = served.text_bytes and not given_up
        return "text was sent, and nothing is billed" if any(tokens_used) or unpaid else None
    if served.told_usage and seen.whole and row["ending"] != "crashed":
        return "is an estimate although the provider told usage and the client read it all"
    return estimate_fault(row, plan, served, seen)


def estimate_fault(row: Mapping[str, Any], plan: Planned, served: Served, seen: Seen) -> str | None:
    """Say what is wrong with an estimate: the prompt by its bytes, the text between what was read and what was sent."""
    if row["prompt_tokens"] != 4 + tokens(len(plan.prompt.encode())):
        return "the prompt is not estimated by its bytes"
    most = tokens(served.text_bytes)
    least = 0 if row["ending"] == "crashed" else tokens(seen.text_bytes)
    known = plan.fault in (Fault.CUT, Fault.ERROR, Fault.NO_USAGE) and row["ending"] in (
        "complete",
        "upstream_error",
        "upstream_truncated",
    )
    if known:
        least = most
    if not least <= row["completion_tokens"] <= most:
        return f"the text is not between {least} and {most} tokens"
    return None


def tokens(utf8_bytes: int) -> int:
    """The estimate of a text: a token for every four bytes begun."""
    return -(-utf8_bytes // 4)


def by_number(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """Sort rows by the number in their metadata."""
    found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[int(row["metadata"]["number"])].append(row)
    return found


def nusd(cost_pusd: int) -> int:
    """What the counters of an account are charged for a row: rounded up once per request."""
    return -(-cost_pusd // 1000)
