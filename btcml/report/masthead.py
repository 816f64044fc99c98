"""What all pages of one report share: series, banner, footer, and the order of the pages."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INDEX", "PAGES", "SLIDES", "Page", "Site", "banner", "provenance"]


@dataclass(frozen=True)
class Page:
    """One page of the story: its chapter, file, title and the short name in the bar above."""

    chapter: str
    href: str
    title: str
    short: str


PAGES: tuple[Page, ...] = (
    Page("ingest", "01-ingest.html", "Where the data come from", "Data"),
    Page("eda", "02-eda.html", "What the market looks like", "Market"),
    Page("features", "03-features.html", "What the model may know", "Features"),
    Page("training", "04-training.html", "How the models learn", "Training"),
    Page("evaluation", "05-evaluation.html", "How good the forecasts are", "Evaluation"),
)
"""The chapters in the order of the story."""

INDEX = Page("index", "index.html", "Can the next candle be forecast?", "Start")
SLIDES = Page("slides", "slides.html", "Ten pictures", "Slides")


_MIXED = (
    "Not all of these reports are of the real market: “simulated” was made by a program, and replays and files are "
    "not fetched from the exchange. The column “Market” says which is which."
)


@dataclass(frozen=True)
class Site:
    """What every page of one report shows.

    Attributes
    ----------
    market, symbol, interval
        The series.
    footer
        Names and short hashes of what the pages were made from.
    markets
        All markets of a page over several reports; its banner tells of each.
    """

    market: str
    symbol: str
    interval: str
    footer: tuple[tuple[str, str], ...] = ()
    markets: tuple[str, ...] = ()

    @property
    def banner(self) -> str:
        """The sentence above every page that is not of the real market alone; empty on those that are."""
        if len(self.markets) > 1 and set(self.markets) != {"binance"}:
            return _MIXED
        return banner(self.markets[0] if self.markets else self.market)


def banner(market: str) -> str:
    """Return what a reader must know about a market before any number.

    Examples
    --------
    >>> banner("binance")
    ''
    >>> banner("simulated")[:16]
    'Simulated market'
    """
    kind, _, name = market.partition(":")
    return {
        "binance": "",
        "simulated": "Simulated market: these candles were made by a program, with one small, documented "
        "predictability. They say nothing about the real market.",
        "replay": f"Replayed market “{name}”: these candles came from a replay server, not from the exchange.",
        "file": f"Candles of the file “{name}”: taken as the file has them, not fetched from the exchange.",
    }[kind]


def provenance(market: str) -> str:
    """Return one sentence on where the candles of a market come from."""
    kind, _, name = market.partition(":")
    return {
        "binance": "The candles are those of Binance's spot market, asked from the exchange itself.",
        "simulated": "The candles are made by a program, one path of minutes, the same for everyone who asks.",
        "replay": f"The candles come from the replay server “{name}”, which answers as the exchange would.",
        "file": f"The candles come from the file “{name}”.",
    }[kind]
