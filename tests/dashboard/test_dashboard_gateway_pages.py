"""Models, limits, system and playground: the gateway itself, as far as somebody may see it."""

import math
from pathlib import Path

import pytest
from dashboard_bench import NOW_MS, Bench

from proxy.dashboard.configured import HIDDEN, configured
from proxy.dashboard.watching import REFUSED, Sample, Watching
from proxy.health import Reloaded
from proxy.settings import Settings
from specimens import Clock

SECRETS = ("sk-of-a-provider-0815", "header-4711", "store-password", "ledger-password", "in-the-body")


class TestModels:
    async def test_they_have_prices_for_a_million_tokens_and_providers_that_are_up_or_not(self, operator: Bench):
        operator.samples.append(Sample("aion_upstream_up", {"provider": "one"}, 0.0))
        words = (await operator.page("/models")).words
        assert "lab/model also short A model enabled 0.8 0.2 1.6 8,192 one: lab/model, weight 1 ( down" in words
        assert "lab/gone A model disabled" in words

    async def test_a_provider_that_requests_pass_over_is_told(self, operator: Bench):
        operator.samples.append(Sample("aion_upstream_passed_over", {"provider": "one"}, 1.0))
        assert "weight 1 (not asked yet, passed over" in (await operator.page("/models")).words
        told = (await operator.api("GET", "/routes")).document["routes"]
        assert {"provider": "one", "up": None, "passed_over": True}.items() <= told[0].items()

    async def test_where_they_run_is_for_operators(self, person: Bench):
        words = (await person.page("/models")).words
        assert "lab/model" in words
        assert "weight" not in words
        assert "lab/gone" not in words


class TestLimits:
    async def test_who_has_used_four_fifths_is_near_a_limit(self, operator: Bench):
        operator.limits.used, operator.limits.spent_nusd = 479, 25_000_000_000
        words = (await operator.page("/limits")).words
        assert "acme budget 100%" in words
        assert "requests per minute" not in words
        operator.limits.used = 480
        assert "acme requests per minute 80%" in (await operator.page("/limits")).words

    async def test_refusals_are_told_by_reason(self, operator: Bench):
        operator.samples += [Sample(REFUSED, {"reason": "budget"}, 3.0), Sample(REFUSED, {"reason": "budget"}, 2.0)]
        assert "budget 5 5 5" in (await operator.page("/limits")).words
        told = (await operator.api("GET", "/limits")).document
        assert told["refused"] == {"budget": 5}
        assert told["refused_by_hour"][-1]["refused"] == {"budget": 5}

    async def test_refusals_of_others_are_nobody_s_business(self, person: Bench):
        person.samples.append(Sample(REFUSED, {"reason": "budget"}, 3.0))
        assert "Refusals" not in (await person.page("/limits")).words

    async def test_refusals_are_counted_in_the_hour_in_which_they_came(self):
        clock, samples = Clock(36_000.0), [Sample(REFUSED, {"reason": "budget"}, 5.0)]
        watching = Watching(lambda: samples, clock)
        for later, count in ((0, 5.0), (60, 7.0), (3_600, 8.0), (60, 2.0)):  # the last: counted anew after a restart
            clock.pass_by(later)
            samples[0] = Sample(REFUSED, {"reason": "budget"}, count)
            await watching.look()
        told = await watching.refusals()
        assert told.since_start == {"budget": 2}
        assert len(told.by_hour) == 24
        assert (told.by_hour[36_000], told.by_hour[39_600]) == ({"budget": 2}, {"budget": 1})
        assert sum(map(len, told.by_hour.values())) == 2


class TestSystem:
    async def test_operators_see_how_it_is_and_the_configuration_without_secrets(self, operator: Bench, reasons):
        reasons.append("the store is away")
        operator.samples.append(Sample("aion_ledger_lag_seconds", {}, 0.25))
        page = await operator.page("/system")
        for told in ("1", "no", "the store is away", "0.25", "plans.standard.budget.usd 25", "providers.one.base_url"):
            assert told in page.words
        assert SECRETS[0] not in page.text
        assert f"providers.one.api_key {HIDDEN}" in page.words

    async def test_it_tells_of_workers_store_ledger_and_journal(self, operator: Bench):
        operator.samples += [
            *(Sample("aion_store_up", {}, 1.0), Sample("aion_store_up", {}, 1.0), Sample("aion_workers", {}, 2.0)),
            *(Sample("aion_journal_bytes", {}, 12_345.0), Sample("aion_journal_disk_free_bytes", {}, math.nan)),
        ]
        words = (await operator.page("/system")).words
        for told in (
            "Ledger answers",
            "Workers that serve 2",
            "store 2",
            "Journal, in bytes 12,345",
            "bytes not known",
        ):
            assert told in words
        figures = (await operator.api("GET", "/system")).document["figures"]
        assert figures == {"aion_workers": 2, "aion_store_up": 2, "aion_journal_bytes": 12_345}

    async def test_a_ledger_that_is_away_is_told(self, operator: Bench, tmp_path):
        operator.ledger.close()
        operator.ledger.__init__("postgresql://127.0.0.1:1/nothing?connect_timeout=2", tmp_path)
        assert "the ledger cannot be used" in (await operator.page("/system")).words

    @pytest.mark.parametrize(
        ("reload", "told"),
        [
            (Reloaded(NOW_MS / 1_000, success=True, told=""), "in force"),
            (Reloaded(NOW_MS / 1_000, success=True, told="ledger"), "after a restart only: ledger"),
            (Reloaded(NOW_MS / 1_000, success=False, told="plans: <i>"), "the old configuration stays plans: <i>"),
        ],
    )
    async def test_the_last_reload_is_told(self, operator: Bench, reload: Reloaded, told: str):
        assert "Last reload none since the start" in (await operator.page("/system")).words
        operator.reloads.append(reload)
        page = await operator.page("/system")
        assert told in page.words
        assert "<i>" not in page.text
        asked = (await operator.api("GET", "/system")).document["last_reload"]
        assert (asked["success"], asked["told"]) == (reload.success, reload.told)

    async def test_nobody_else_does(self, person: Bench):
        assert (await person.page("/system")).status == 403
        assert "/system" not in (await person.page("/")).text

    def test_no_secret_of_any_kind_is_shown(self):
        settings = Settings.model_validate(
            {
                "store": f"redis://user:{SECRETS[2]}@127.0.0.1:6379/0?ssl_password={SECRETS[2]}",
                "ledger": f"postgresql://user:{SECRETS[3]}@127.0.0.1/ledger?password={SECRETS[3]}",
                "providers": {
                    "one": {
                        "base_url": "http://127.0.0.1:1/v1",
                        "api_key": SECRETS[0],
                        "headers": {"X-Secret": SECRETS[1]},
                        "extra_body": {"token": SECRETS[4]},
                    }
                },
            }
        )
        text = str(configured(settings))
        assert not [secret for secret in SECRETS if secret in text]
        assert f"redis://{HIDDEN}@127.0.0.1:6379/0?{HIDDEN}" in text
        assert Path("data").name in text
