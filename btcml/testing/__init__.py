"""A replay exchange to test against: a real HTTP server that answers as Binance does.

It serves candles of any source (the simulated market, a file, a folder) by the routes of Binance's
spot API and its archive, with a clock of its own and with faults on demand: bans, resets, truncated
bodies, duplicate or unfinished rows, wrong checksums. btcml's own tests run against it, and yours can: nothing
here needs a network or a database.

Examples
--------
A client that must survive one rate limit:

>>> import requests
>>> from btcml.market.simulate import SimulatedMarket
>>> from btcml.testing import Fault, running_exchange
>>> with running_exchange(SimulatedMarket(), faults=[Fault(kind="rate_limit", retry_after=0)]) as exchange:
...     answers = [requests.get(exchange.url + "/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=1") for _ in range(2)]
>>> [answer.status_code for answer in answers]
[429, 200]
>>> [seen.path for seen in exchange.log]
['/api/v3/klines', '/api/v3/klines']
"""

from btcml.testing.exchange import Exchange, ReplayClock, Seen, running_exchange, serve_exchange
from btcml.testing.faults import KINDS, RULES, Fault, load_faults

__all__ = [
    "KINDS",
    "RULES",
    "Exchange",
    "Fault",
    "ReplayClock",
    "Seen",
    "load_faults",
    "running_exchange",
    "serve_exchange",
]
