"""What a reader can try on the page: guess candles, choose a fee, choose a loss; each is a table without script."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from btcml.forecast.metrics import PERSISTENCE
from btcml.report import claims as say
from btcml.report.figures import Columns, Tryout
from btcml.report.language import local_text

if TYPE_CHECKING:
    from btcml.forecast.experiment import Result

_HIDDEN, _PAST = 20, 48
_MOST_FEE, _STEP = 20.0, 2.0
_RARE, _DIGITS = 0.95, 6


def guess(result: Result, candles: pd.DataFrame) -> Tryout | say.Claim:
    """Hidden candles, evenly spaced over the test: the reader's guesses against model and coin."""
    frame = result.of_leader.dropna(subset=["y", "y_hat", "base"])
    moved = frame[(frame["y"] != frame["base"]) & (frame["y_hat"] != frame["base"])]
    close, places = candles["close"].to_numpy(), candles["open_time"].searchsorted(moved["open_time"])
    moved, places = moved[places >= _PAST], places[places >= _PAST]
    if len(moved) < _HIDDEN:
        return say.claim("No model forecasts enough moves for a guess against it.")
    right = float(((moved["y"] > moved["base"]) == (moved["y_hat"] > moved["base"])).mean())
    chosen = np.linspace(0, len(moved) - 1, _HIDDEN).astype(int)
    rows = moved.iloc[chosen][["open_time", "base", "y", "y_hat"]].reset_index(drop=True)
    coin = [_toss(time) for time in rows["open_time"]]
    table = rows.assign(coin=coin, came=_sides(rows["y"], rows), said=_sides(rows["y_hat"], rows))
    facts = {
        "past": [_bp(np.log(close[place - _PAST : place] / close[place - 1])) for place in places[chosen]],
        "moves": _bp(np.log(rows["y"] / rows["base"])),
    } | {name: (table[name] == "up").tolist() for name in ("came", "said", "coin")}
    columns = {"open_time": "Candle", "came": "Came", "said": "Model", "coin": "Coin"}
    return Tryout("guess", table, partial(_guess_claim, result.leader, right, len(moved)), columns, facts=facts)


def _guess_claim(model: str, right: float, candles: int, table: pd.DataFrame) -> say.Claim:
    hits, lucky = int((table["said"] == table["came"]).sum()), int(binom.ppf(_RARE, len(table), 0.5)) + 1
    return say.claim(
        "You against the model: up or down, on {shown} of the test, evenly spaced. {model} is right in {hits} of them, "
        "a coin in {coin}; over the {all} that moved, the model is right in {right}. A coin alone is right in {lucky} "
        "or more of {shown} in {share} of all games.",
        shown=say.count(len(table), "hidden candle"),
        model=say.model(model),
        hits=say.count(hits),
        coin=say.count(int((table["coin"] == table["came"]).sum())),
        all=say.count(candles, "candle"),
        right=say.percent(right),
        lucky=say.count(lucky),
        share=say.percent(float(binom.sf(lucky - 1, len(table), 0.5))),
    )


def _toss(time: pd.Timestamp) -> str:
    """Return the side of a coin that falls the same way on every machine."""
    return "up" if hashlib.sha256(time.isoformat().encode()).digest()[0] % 2 else "down"


def _sides(price: pd.Series, frame: pd.DataFrame) -> list[str]:
    return ["up" if above else "down" for above in price > frame["base"]]


def _bp(moves: pd.Series | np.ndarray) -> list[float]:
    return [round(float(move), 1) + 0.0 for move in 1e4 * np.asarray(moves)]


def fee(result: Result) -> Tryout | say.Claim:
    """What a round trip on the strongest forecasts leaves at the reader's own fee."""
    gain = result.gain
    if not np.isfinite(gain.bp):
        return say.claim("No forecast stands out from the others, so that no fee is paid.")
    fees = np.arange(0.0, _MOST_FEE + _STEP, _STEP)
    results = {"net_bp": gain.bp - fees, "low_bp": gain.low - fees, "high_bp": gain.high - fees}
    table = pd.DataFrame({"fee_bp": fees} | results)
    proven = result.verdict.champion != PERSISTENCE
    ends = {"gross": gain.bp, "low": gain.low, "high": gain.high, "most": _MOST_FEE}
    facts = {name: round(value, _DIGITS) for name, value in ends.items()} | {"proven": proven}
    columns = {"fee_bp": "Fee, bp", "net_bp": "Net result, bp", "low_bp": "Low", "high_bp": "High"}
    return Tryout("fee", table, partial(_fee_claim, proven), columns, facts=facts)


def _fee_claim(proven: bool, table: pd.DataFrame) -> say.Claim:  # noqa: FBT001 - bound before the frame
    """Up to which fee the result is a significant gain, and from which on a significant loss."""
    free, gains = table.iloc[0], table[(table["low_bp"] > 0) & proven]
    trip = "Choose your fee: a round trip on the strongest forecasts"
    return say.cases(
        (len(gains) == len(table), f"{trip} earns something even at {{most}}."),
        (len(gains) > 0, f"{trip} earns {{free}} before fees; a fee above that makes it a loss."),
        (
            free["net_bp"] > 0,
            f"{trip} earns {{free}} before fees, which may be chance; a fee above that makes it a loss.",
        ),
        (True, f"{trip} earns nothing even without one ({{free}})."),
        free=say.bp(free["net_bp"]),
        most=say.bp(_MOST_FEE, 0),
    )


def loss(result: Result) -> Tryout:
    """Skill in each month under two losses: absolute errors, and squared ones, in which few large moves count most."""
    scores = result.scores("month", ["skill", "rmse_bp"]).set_index("month")
    ours, theirs = (scores[scores["model"] == name] for name in (result.leader, PERSISTENCE))
    months = pd.DataFrame({"absolute": ours["skill"], "squared": 1 - (ours["rmse_bp"] / theirs["rmse_bp"]) ** 2})
    months = months.dropna().reset_index()
    facts: dict[str, list[Any]] = {"months": [local_text(str(month)) for month in months["month"]]}
    facts |= {name: [round(value, _DIGITS) + 0.0 for value in months[name]] for name in ("absolute", "squared")}
    columns: Columns = {
        "month": "Month",
        "absolute": ("Absolute error", say.signed_skill),
        "squared": ("Squared error", say.signed_skill),
    }
    return Tryout("loss", months, partial(_loss_claim, result.leader), columns, facts=facts)


def _loss_claim(model: str, months: pd.DataFrame) -> say.Claim:
    return say.claim(
        "Choose your loss: by absolute error {model} is better than “no change” in {absolute} of {months}, by squared "
        "error, in which the largest moves count most, in {squared}.",
        model=say.model(model),
        months=say.count(len(months), "month"),
        absolute=say.count(int((months["absolute"] > 0).sum())),
        squared=say.count(int((months["squared"] > 0).sum())),
    )
