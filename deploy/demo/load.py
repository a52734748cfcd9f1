"""A small mixed load on a gateway with the demo provider, so that its dashboards move.

It makes three accounts of its own with the gateway's commands, then asks in several ways at once: short and long
answers, streams, the Responses API, clients that leave, providers that fail, a wrong key, an account with tight limits.
Bounded in rate always and in time by `--seconds`. Only the standard library.
"""

import argparse
import http.client
import json
import random
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 60.0
ACCOUNTS = {
    "demo_web": [],
    "demo_batch": ["--requests-per-minute", "none"],
    "demo_tight": ["--requests-per-minute", "12", "--budget-usd", "0.005", "--budget-per", "day"],
}


@dataclass(frozen=True)
class Way:
    """One way to ask: how often beside the others, by which account, and what."""

    weight: int
    account: str
    prompt: str
    model: str = "demo/echo"
    stream: bool = False
    responses: bool = False
    leaves: bool = False


WAYS = (
    Way(20, "demo_web", "What are tides?"),
    Way(20, "demo_web", "think about the sea", "demo/thinker", stream=True),
    Way(12, "demo_web", "slow long 15", stream=True),
    Way(15, "demo_batch", "long 400", stream=True),
    Way(10, "demo_batch", "long 1500"),
    Way(10, "demo_web", "What are waves?", responses=True),
    Way(5, "demo_web", "slow long 40", stream=True, leaves=True),
    Way(3, "demo_batch", "error 500"),
    Way(2, "demo_batch", "long 60 break", stream=True),
    Way(6, "demo_tight", "long 200"),
    Way(2, "nobody", "Who am I?"),
)


class Load:
    """Threads that ask until the time is over."""

    def __init__(self, url: str, keys: dict[str, str], rate: float, threads: int) -> None:
        """Ask the gateway at `url`, all threads together about `rate` times a second."""
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._keys = keys
        self._pause = threads / rate
        self._threads = threads
        self._over = threading.Event()
        self._each_once = list(WAYS)
        self.asked = self.failed = 0

    def run(self, seconds: float | None) -> None:
        """Return when the time is over, or never."""
        threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        try:
            self._over.wait(seconds)
        finally:
            self._over.set()
        for thread in threads:
            thread.join(PATIENCE)

    def _ask_on(self) -> None:
        while not self._over.wait(random.expovariate(1 / self._pause)):
            try:
                way = self._each_once.pop()
            except IndexError:
                (way,) = random.choices(WAYS, [way.weight for way in WAYS])
            self.asked += 1
            try:
                self._ask(way)
            except (OSError, http.client.HTTPException):  # a broken stream is a part of the play
                self.failed += 1

    def _ask(self, way: Way) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE)
        asked = {"input": way.prompt} if way.responses else {"messages": [{"role": "user", "content": way.prompt}]}
        body = json.dumps({"model": way.model, "stream": way.stream, **asked})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._keys.get(way.account, 'none')}"}
        try:
            connection.request("POST", "/v1/responses" if way.responses else "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            if way.leaves:
                answer.read(200)
            else:
                answer.read()
        finally:
            connection.close()


def make_keys(command: Callable[..., str]) -> dict[str, str]:
    """Make the accounts where they are missing, and a key for each that is good for a day."""
    keys = {}
    for account, limits in ACCOUNTS.items():
        command("accounts", "create", account)
        if limits:
            command("accounts", "set", account, *limits)
        keys[account] = json.loads(command("keys", "create", account, "--expires", "1d", "--json"))["key"]
    return keys


def aion_proxy(*arguments: str) -> str:
    """Run one of the gateway's commands; an account that is there already is as good as a new one."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode and arguments[:2] != ("accounts", "create"):
        raise SystemExit(f"aion-proxy {' '.join(arguments[:3])}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """Make the accounts, and load until the time is over or for ever."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="where the gateway listens")
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second, on average")
    parser.add_argument("--threads", type=int, default=8, help="requests at the same time, at most")
    parser.add_argument("--seconds", type=float, default=None, help="how long; for ever if it is left out")
    args = parser.parse_args()
    load = Load(args.url, make_keys(aion_proxy), args.rate, args.threads)
    began = time.monotonic()
    load.run(args.seconds)
    print(f"{load.asked} requests in {time.monotonic() - began:.0f} s, {load.failed} of them broken off")


if __name__ == "__main__":
    main()
