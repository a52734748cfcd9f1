"""The JSON documents of the ledger: sums by group, and single requests; the same for the commands and the admin API.

Shapes only: keys may be added here and never renamed. Money is a decimal string of US dollars, a time is RFC 3339.
"""

from collections.abc import Mapping, Sequence

import orjson

from proxy.admin.documents import Document, rfc3339
from proxy.ledger.people import AuditEntry, DashboardToken
from proxy.ledger.queries import By, Group, Sums
from proxy.pricing import format_usd
from proxy.usage_record import UsageRecord


def usage_document(by: Sequence[By], found: Mapping[Group, Sums]) -> Document:
    """Describe sums by their groups, and all of them together."""
    rows = [{**named_group(by, group), **sums_document(used)} for group, used in found.items()]
    return {"rows": rows, "total": sums_document(total_of(found))}


def total_of(found: Mapping[Group, Sums]) -> Sums:
    """Add all groups up."""
    total = Sums()
    for group in found.values():
        total.add(group)
    return total


def named_group(by: Sequence[By], group: Group) -> Mapping[str, str]:
    """Name what a group has in common; a day is a date, an hour the moment when it begins."""
    named = {}
    for column, value in zip(by, group, strict=True):
        text = rfc3339(value) if isinstance(value, int) else value
        named[column.value] = str(text)[:10] if column is By.DAY else str(text)
    return named


def sums_document(used: Sums) -> Document:
    """Describe what a group of requests has used."""
    return {
        "requests": used.requests,
        "prompt_tokens": used.prompt_tokens,
        "cached_tokens": used.cached_tokens,
        "completion_tokens": used.completion_tokens,
        "reasoning_tokens": used.reasoning_tokens,
        "cost_usd": format_usd(used.cost_pusd),
        "estimated_requests": used.estimated_requests,
    }


def request_document(record: UsageRecord) -> Document:
    """Describe one row of the ledger, with its cost in US dollars beside that in pUSD."""
    shown: Document = {name: getattr(record, name) for name in UsageRecord.__struct_fields__}
    shown["started_at"] = rfc3339(record.started_at)
    shown["cost_usd"] = format_usd(record.cost_pusd)
    if record.metadata is not None:
        shown["metadata"] = orjson.Fragment(record.metadata)
    return shown


def token_document(token: DashboardToken) -> Document:
    """Describe a dashboard token by its id."""
    return {
        "token_id": token.token_id,
        "account": token.account,
        "name": token.name,
        "created": rfc3339(token.created_at),
        "expires": rfc3339(token.expires_at),
        "revoked": rfc3339(token.revoked_at),
    }


def audit_document(entry: AuditEntry) -> Document:
    """Describe one entry of the audit log."""
    return {
        "at": rfc3339(entry.at),
        "person": entry.person,
        "action": entry.action,
        "account": entry.account,
        "subject": entry.subject,
        "detail": orjson.Fragment(entry.detail),
        "outcome": entry.outcome,
    }
