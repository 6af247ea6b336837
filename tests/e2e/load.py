"""Clients that ask all four tasks without a pause; runs in the service's image, without packages.

    python load.py SECONDS [--cached]

They stop when no server listens, or after SECONDS. What they saw is printed as JSON:
`statuses` by count; `lost`, how every request failed that was sent and not answered; `refused`,
how many clients found no server; `answers`, the different ones that each question had.
With `--cached` every second request may be answered by a store; else none may.
"""

import http.client
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from itertools import count
from pathlib import Path

HOST, PORT = "quartet", 8000
CLIENTS = 12
CONNECT_SECONDS, ANSWER_SECONDS = 5, 40

SAMPLES = Path("service/page/samples")
JSON = "application/json"
REPEATED = {
    "/v1/classify": (JSON, b'{"text": "Stocks fall as oil prices slide"}'),
    "/v1/translate": (JSON, '{"text": "汤姆昨天没有去学校。"}'.encode()),
    "/v1/detect": ("image/jpeg", (SAMPLES / "cards.jpg").read_bytes()),
    "/v1/embed": (JSON, '{"text": "火箭"}'.encode()),
}


class NobodyListensError(Exception):
    """The connection was refused, or the name has gone."""


class Client(threading.Thread):
    """One after the other; odd ones open a connection for each request."""

    def __init__(self, number: int, until: float, cached: bool) -> None:
        super().__init__()
        self.number, self.until, self.cached = number, until, cached
        self.statuses: Counter[str] = Counter()
        self.answers: defaultdict[str, set[bytes]] = defaultdict(set)
        self.lost: list[str] = []
        self.refused = False
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        paths = list(REPEATED)
        for turn in count(self.number):
            if time.monotonic() > self.until:
                return
            try:
                self._ask(paths[turn % len(paths)], repeated=self.cached and turn // 4 % 2 == 0)
            except NobodyListensError:
                self.refused = True
                return
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                self._connection = None

    def _ask(self, path: str, *, repeated: bool) -> None:
        kind, body = REPEATED[path]
        headers = {"Content-Type": kind}
        if not repeated:
            headers["Cache-Control"] = "no-store"
        connection = self._connection or self._connect()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        self.statuses[str(response.status)] += 1
        if response.status == http.HTTPStatus.OK:
            self.answers[path].add(answer)
        if response.will_close or self.number % 2:
            connection.close()
            connection = None
        self._connection = connection

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(HOST, PORT, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
        except OSError as error:
            raise NobodyListensError from error
        connection.sock.settimeout(ANSWER_SECONDS)
        return connection


def main() -> None:
    until = time.monotonic() + float(sys.argv[1])
    clients = [Client(number, until, "--cached" in sys.argv) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    statuses: Counter[str] = Counter()
    answers: defaultdict[str, set[bytes]] = defaultdict(set)
    for client in clients:
        statuses += client.statuses
        for path, some in client.answers.items():
            answers[path] |= some
    seen = {
        "statuses": statuses,
        "lost": [error for client in clients for error in client.lost],
        "refused": sum(client.refused for client in clients),
        "answers": {path: [one.decode() for one in some] for path, some in answers.items()},
    }
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
