"""Charts and tables of the first chapter: source and quality of the candles."""

from __future__ import annotations

import pandas as pd
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from btcml.candles import interval_delta
from btcml.report import claims as say
from btcml.report.exploration import completeness
from btcml.report.figures import SERIES, Chart, Columns, Table, canvas
from btcml.report.language import told
from btcml.store.snapshots import Snapshot

_WEEKS = 53
_TICKS = (0, 9, 19, 29, 39, 49)
_FULL = 0.9999
_MAX_ROWS = 12


def _expected(snapshot: Snapshot) -> tuple[int, int]:
    weeks = completeness(snapshot.candles, snapshot.key.interval)
    return int(weeks["expected"].sum()), int(weeks["found"].sum())


def provenance(market: str, merged: tuple[str, ...] = ()) -> say.Claim:
    """One sentence about the source of a market's candles, and the files that were merged into it."""
    kind, _, name = market.partition(":")
    files = ", and from files merged into them: {files}." if merged else "."
    return say.cases(
        (
            kind == "binance",
            "The candles are those of Binance's spot market, fetched from the exchange itself" + files,
        ),
        (
            kind == "simulated",
            "The candles are made by a program: one path of minutes, the same for every request.",
        ),
        (kind == "replay", "The candles come from the replay server “{name}”, which answers as the exchange would."),
        (kind == "file", "The candles come from the file “{name}”" + files),
        name=say.word(name or market),
        files=say.word(", ".join(merged) or "none"),
    )


def origin(snapshot: Snapshot) -> say.Claim:
    """Where the candles came from, how many, from when to when, and what was decided in reading a file."""
    candles = snapshot.candles
    return say.claim(
        "{source} The snapshot holds {rows} of {interval}, from {first} to {last}."
        + " In reading the file: {notes}." * bool(snapshot.notes),
        notes=say.word("; ".join(map(told, snapshot.notes)) or "nothing"),
        source=provenance(snapshot.key.market, snapshot.merged).as_word(),
        rows=say.count(len(candles), "final candle"),
        interval=say.word(snapshot.key.interval),
        first=say.minute(candles["open_time"].iloc[0]),
        last=say.minute(candles["close_time"].iloc[-1].floor("min")),
    )


def headline(snapshot: Snapshot) -> say.Claim:
    """Whether the data are complete: candles found, missing and rejected."""
    expected, found = _expected(snapshot)
    suspect = int(snapshot.suspects["rows"].sum())
    missing = say.claim(
        "{missing} of those expected are missing",
        missing=say.percent(1 - found / expected, 3),
    )
    rejected = say.claim(
        "{rejected} broke a rule and {be} in quarantine",
        rejected=say.count(len(snapshot.quarantine), "row"),
        be=say.verb(len(snapshot.quarantine), "is", "are"),
    )
    frozen = say.claim(
        "{suspect} {do} not fit their neighbours, and no model learns from them",
        suspect=say.count(suspect),
        do=say.verb(suspect, "does", "do"),
    )
    faults = ((missing, found < expected), (rejected, not snapshot.quarantine.empty), (frozen, suspect > 0))
    broken = "; ".join(str(fault) for fault, there in faults if there)
    return say.claim(
        "{rows}, complete from the first to the last, none rejected.",
        holds=not broken,
        otherwise="{rows}: {faults}. Models learn only from valid candles.",
        rows=say.count(found, "candle"),
        faults=say.word(broken or "none"),
    )


def cards(snapshot: Snapshot) -> tuple[say.Card, ...]:
    """Key figures: candles, span and gaps."""
    candles, (expected, found) = snapshot.candles, _expected(snapshot)
    length = candles["open_time"].iloc[-1] - candles["open_time"].iloc[0] + interval_delta(snapshot.key.interval)
    until = say.claim("until {last}", last=say.day(candles["open_time"].iloc[-1]))
    final = say.claim("of {interval}, all final", interval=say.word(snapshot.key.interval))
    gaps = say.claim("{missing} missing", missing=say.count(expected - found, "candle"))
    return (
        say.Card("Candles", say.count(len(candles)), str(final)),
        say.Card("Span", say.span(length), str(until)),
        say.Card("Gaps", say.count(len(snapshot.gaps)), str(gaps)),
    )


def calendar(weeks: pd.DataFrame) -> Chart:
    """Completeness by week (`btcml.report.exploration.completeness`): one row per year."""
    years = sorted(weeks["year"].unique())
    figure, axes = canvas(0.85 + 0.32 * len(years))
    for color, part in ((SERIES[0], weeks["share"] >= _FULL), (SERIES[1], weeks["share"] < _FULL)):
        places = zip(weeks["week"][part].tolist(), weeks["year"][part].tolist(), strict=True)
        boxes = [Rectangle((week - 1, years.index(year) - 0.4), 0.86, 0.8) for week, year in places]
        axes.add_collection(PatchCollection(boxes, facecolor=color, edgecolor="none"))
    axes.set(xlim=(-0.3, _WEEKS + 0.3), ylim=(len(years) - 0.4, -0.6), xlabel="week, counted from 1 January")
    axes.set_xticks([week + 0.43 for week in _TICKS], [f"{week + 1}" for week in _TICKS])
    axes.set_yticks(range(len(years)), [str(year) for year in years])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    alt = "Calendar with a box for each week: blue when complete, orange when not."
    return Chart("calendar", weeks, _calendar_claim, figure, alt)


def _calendar_claim(weeks: pd.DataFrame) -> say.Claim:
    holes = int((weeks["share"] < _FULL).sum())
    return say.cases(
        (holes == 0, "Every week is complete."),
        (holes == len(weeks), "Each of {weeks} lacks candles (orange)."),
        (True, "{holes} of {weeks} {lack} candles (orange); all others are complete (blue)."),
        lack=say.verb(holes, "lacks", "lack"),
        holes=say.count(holes),
        weeks=say.count(len(weeks), "week"),
    )


def longest_gaps(gaps: pd.DataFrame, interval: str) -> Table | say.Claim:
    """The longest gaps and their cause: the exchange or missing requests."""
    if gaps.empty:
        return say.claim("There is no gap between the first and the last candle.")
    longest = gaps.sort_values(["missing", "start"], ascending=[False, True]).head(_MAX_ROWS)

    def _conclude(shown: pd.DataFrame) -> say.Claim:
        return say.claim(
            "{gaps} in all, the longest of {longest}. None is filled.",
            holds=len(gaps) > 1,
            otherwise="There is {gaps}, of {longest}. It is not filled.",
            gaps=say.count(len(gaps), "gap"),
            longest=say.span(shown["missing"].max() * interval_delta(interval)),
        )

    columns: Columns = {"start": "First missing", "end": "Next candle", "missing": "Missing candles", "kind": "Why"}
    return Table("gaps", longest[list(columns)], _conclude, columns)


def rules_checked(rules: pd.DataFrame) -> Table:
    """The data contract rule by rule (`btcml.contract.rule_results`)."""
    columns: Columns = {
        "rule": "Rule",
        "description": "Condition",
        "checked": "Rows checked",
        "broken": "Rows that violate it",
    }
    return Table("rules", rules[list(columns)], _rules_claim, columns, folded=True)


def _rules_claim(rules: pd.DataFrame) -> say.Claim:
    broken = int((rules["broken"] > 0).sum())
    known = broken == 0 and rules["checked"].min() < rules["checked"].max()
    return say.claim(
        "All {rules} of the data contract hold for every row" + " in which they can be checked" * bool(known) + ".",
        holds=broken == 0,
        otherwise="{broken} of the {rules} of the data contract {were} broken by some row; such rows are in "
        "quarantine or marked as suspect.",
        rules=say.count(len(rules), "rule"),
        broken=say.count(broken),
        were=say.verb(broken, "was", "were"),
    )


def quarantined(rejected: pd.DataFrame) -> Table | say.Claim:
    """Rows in quarantine, by rule."""
    if rejected.empty:
        return say.claim("No row is in quarantine.")
    by = rejected.groupby("rule")["open_time"].agg(["size", "min", "max"]).reset_index()
    columns: Columns = {"rule": "Rule broken", "size": "Rows", "min": "First", "max": "Last"}
    return Table("quarantine", by, _quarantine_claim, columns)


def _quarantine_claim(by: pd.DataFrame) -> say.Claim:
    rows = int(by["size"].sum())
    return say.claim(
        "{rows} broke a rule and {be} in quarantine, where no model uses {them}.",
        rows=say.count(rows, "row"),
        be=say.verb(rows, "is", "are"),
        them=say.verb(rows, "it", "them"),
    )


def suspect_spans(suspects: pd.DataFrame) -> Table | say.Claim:
    """Spans whose rows are valid one by one but not as a whole."""
    if suspects.empty:
        return say.claim("No span looks frozen or inconsistent with its neighbours.")
    rows, shown = int(suspects["rows"].sum()), suspects.head(_MAX_ROWS)

    def _conclude(spans: pd.DataFrame) -> say.Claim:
        part = "the first {spans} are shown here" if len(spans) < len(suspects) else "they are shown here"
        return say.claim(
            "{rows} {lie} in spans that do not fit their neighbours: " + part + ", and no model learns from them.",
            rows=say.count(rows, "candle"),
            lie=say.verb(rows, "lies", "lie"),
            spans=say.count(len(spans), "span"),
        )

    columns: Columns = {"start": "From", "end": "To", "rule": "What is wrong", "rows": "Candles"}
    return Table("suspects", shown[list(columns)], _conclude, columns)


def revised(revisions: pd.DataFrame, candles: pd.DataFrame) -> Table | say.Claim:
    """Final candles that the source changed later: old and current values."""
    if revisions.empty:
        return say.claim("No stored candle has been restated by its source.")
    old = revisions.sort_values(["open_time", "seen_at"]).head(_MAX_ROWS)
    table = old.merge(candles, on="open_time", suffixes=("_old", "_new"))

    def _conclude(_shown: pd.DataFrame) -> say.Claim:
        changed = say.count(revisions["open_time"].nunique(), "candle")
        return say.claim("{rows} changed after being final; the old values are kept.", rows=changed)

    columns: Columns = {
        "open_time": "Candle",
        "close_old": "Close before",
        "close_new": "Close now",
        "volume_old": "Volume before",
        "volume_new": "Volume now",
    }
    return Table("revisions", table[list(columns)], _conclude, columns)
