"""The page of a judgement: verdict, table, loss difference over time, coverage, and what would change the verdict.

The folder has ``index.html``, ``badge.svg``, ``data/*.csv`` and ``manifest.json``; the same forecasts, candles, options
and code give the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy.stats import norm

from btcml.candles import content_hash
from btcml.errors import UsageError
from btcml.files import file_hash, replaced_folder, write_text
from btcml.forecast.distribution import distribution_scores
from btcml.forecast.judge import BETTER, CHAMPION, UNPROVEN, WORSE
from btcml.forecast.judge_checks import CHECKS
from btcml.forecast.metrics import PERSISTENCE
from btcml.report import claims as say
from btcml.report.charts import evaluation
from btcml.report.figures import Chart, Columns, Table, exhibit_html
from btcml.report.language import told
from btcml.report.manifest import SHORT, code_facts, compare_pages, digest, manifest_text
from btcml.report.pages import Page, Site, check_page, layout, render
from btcml.report.story import csv_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.candles import SeriesKey
    from btcml.forecast.experiment import Result
    from btcml.forecast.judge import Judgement
    from btcml.report.manifest import Verification


PAGE = Page("judgement", "index.html", "Do these forecasts beat “no change”?", "Judgement")

_COLORS = {CHAMPION: "#1a7f37", BETTER: "#1a7f37", UNPROVEN: "#5a6571", WORSE: "#b42318"}
_SUSPECTED = "#9a5b00"
_LETTER, _EDGE = 6.4, 16
_skill = partial(say.percent, digits=2, beside=0.0)
_signed_skill = partial(_skill, sign=True)


@dataclass(frozen=True)
class PageInputs:
    """Content of a page.

    Attributes
    ----------
    judgement
        The judgement.
    key
        The series of the candles.
    hashes
        What `hash_inputs` returns.
    """

    judgement: Judgement
    key: SeriesKey
    hashes: Mapping[str, Any]

    @property
    def result(self) -> Result:
        """Result at the horizon of the best model."""
        return self.judgement.results[0].at(self.judgement.leader["horizon"])

    def site(self, code: Mapping[str, Any]) -> Site:
        """Banner and footer of the page made by some code (`btcml.report.manifest.code_facts`)."""
        hashes = {"Inputs": digest(self.hashes), "Code": digest([code["source"], code["template"]])}
        short = [(name, value[:SHORT]) for name, value in (hashes | {"Lock": code["lock"]}).items()]
        footer = (*short, ("Python", code["versions"]["python"]))
        return Site(self.key.market, self.key.symbol, self.key.interval, footer=footer)


def hash_inputs(frames: Mapping[str, pd.DataFrame], candles: pd.DataFrame, **options: Any) -> dict[str, Any]:
    """Hashes of the content of forecasts and candles, and the options: what decides a judgement."""
    hashes = {name: content_hash([(name, frame)]) for name, frame in frames.items()}
    return {"forecasts": hashes, "candles": content_hash([("candles", candles)]), "parameters": options}


def write_judgement(inputs: PageInputs, folder: Path) -> Path:
    """Write the page of a judgement, with its numbers, badge and manifest, in place of the folder.

    Raises
    ------
    UsageError
        If fewer candles are judged than a verdict needs, or the folder holds other files than such a page.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "badge.svg").exists():
        msg = f"the page replaces its folder, and {folder} holds other files: give a new folder"
        raise UsageError(msg)
    verdict, code = inputs.result.verdict, code_facts()
    if verdict.table.empty:
        msg = f"a page needs a verdict, found: {verdict.reason} Give more forecasts"
        raise UsageError(msg)
    with replaced_folder(folder) as new:
        html = layout(_body(inputs, new), PAGE, inputs.site(code))
        write_text(new / PAGE.href, check_page(html, PAGE.href))
        write_text(new / "badge.svg", badge(inputs.judgement))
        outputs = {path.relative_to(new).as_posix(): file_hash(path) for path in new.rglob("*.*")}
        write_text(new / "manifest.json", manifest_text({**inputs.hashes, **code}, outputs))
    return folder / PAGE.href


def verify_judgement(inputs: PageInputs, folder: Path) -> Verification:
    """Make the page again and compare it with the one in a folder, byte for byte.

    Raises
    ------
    NotFoundError
        If there is none.
    ReportError
        If a byte differs.
    """
    with TemporaryDirectory(prefix="btcml-verify-") as scratch:
        again = write_judgement(inputs, Path(scratch) / "page").parent
        return compare_pages(folder, again).require_identical()


def looks_of(folder: Path) -> int | None:
    """Looks that the page in a folder counts; None where there is none."""
    manifest = folder / "manifest.json"
    return int(json.loads(manifest.read_text(encoding="utf-8"))["parameters"]["looks"]) if manifest.is_file() else None


def badge(judgement: Judgement) -> str:
    """Return an SVG with the conclusion about the best model and its skill."""
    label, value = "btcml judge", _short(judgement)
    return render(
        "badge.svg.j2",
        label=label,
        value=value,
        left=round(_LETTER * len(label)) + _EDGE,
        right=round(_LETTER * len(value)) + _EDGE,
        color=_SUSPECTED if judgement.suspected else _COLORS[judgement.leader["conclusion"]],
    )


def _short(judgement: Judgement) -> str:
    word = "suspected" if judgement.suspected else judgement.leader["conclusion"]
    return f"{word}, skill {_signed_skill(judgement.leader['skill'])}"


def _body(inputs: PageInputs, folder: Path) -> str:
    """Body of the page; the numbers of its figures are written beside it."""
    judgement, result = inputs.judgement, inputs.result
    sections: dict[str, list[Chart | Table | say.Claim]] = {
        "Verdict": [
            say.Claim(told(result.verdict.reason)),
            *_models(judgement),
            evaluation.against_persistence(result, inputs.key.symbol),
            *_beside(judgement, result),
        ],
        "Over time": [evaluation.loss_difference(result), evaluation.skill_by(result), evaluation.edge(result)],
        "What the checks found": [_checks(judgement)],
        "Probabilities and intervals": [
            *_distribution(result),
            evaluation.direction(result),
            evaluation.coverage(result),
        ],
        "After costs": [evaluation.fees(result)],
        "What would change the verdict": [*_changes(result), evaluation.experts(result)],
    }
    shown = [(name, [_shown(part, folder, inputs.key) for part in parts]) for name, parts in sections.items()]
    return render(
        "judgement.html.j2",
        title=PAGE.title,
        headline=str(headline(judgement, result)),
        caveat=judgement.caveat,
        badge=_short(judgement),
        cards=_cards(judgement),
        sections=shown,
        checks=CHECKS.items(),
    )


def _shown(part: Chart | Table | say.Claim, folder: Path, key: SeriesKey) -> str:
    if isinstance(part, say.Claim):
        return f"<p>{escape(str(part))}</p>"
    write_text(folder / "data" / f"{PAGE.chapter}-{part.name}.csv", csv_text(part.data))
    return exhibit_html(part, f"{PAGE.chapter}-{part.name}", str(say.series(key)))


def headline(judgement: Judgement, result: Result) -> say.Claim:
    """The judgement of the best model in one sentence."""
    best, found = judgement.leader, judgement.suspected
    skill = "a skill of {skill} ({p}) on {candles}"
    return say.cases(
        (bool(found), f"{{model}} has {skill}, and is suspected of knowing the outcome: {{checks}}."),
        (best["conclusion"] == CHAMPION, f"{{model}} is better than “no change”: it has {skill}."),
        (best["conclusion"] == WORSE, f"{{model}} is worse than “no change”: it has {skill}."),
        (True, f"It is not proven that {{model}} is better than “no change”: it has {skill}."),
        model=say.model(best["model"]),
        skill=_skill(best["skill"]),
        p=say.pvalue(best["p_holm"]),
        candles=say.count(len(result.losses), "candle"),
        checks=say.word(", ".join(found) or "none"),
    )


def _cards(judgement: Judgement) -> list[say.Card]:
    best = judgement.leader
    span = say.claim(
        "{low} to {high} at one look ({sure})",
        sure=say.percent(0.95, 0),
        low=_skill(best["skill_low"]),
        high=_skill(best["skill_high"]),
    )
    ahead, rows = say.count(best["horizon"], "candle"), say.count(best["rows"], "candle")
    conclusion = best["conclusion"] + ", suspected" * bool(judgement.suspected)
    shares = {"direction": "of the signs are right", "coverage": "of its intervals"}
    return [
        say.Card("Conclusion", say.word(conclusion), f"{say.model(best['model'])}, {ahead} ahead"),
        say.Card("Skill", _skill(best["skill"]), str(span)),
        say.Card("Missing", say.count(best["missing"]), f"of {rows}: they count as no change"),
        *(
            say.Card(name.capitalize(), say.percent(best[name]), note)
            for name, note in shares.items()
            if pd.notna(best[name])
        ),
    ]


def _models(judgement: Judgement) -> list[Table]:
    """All models at all horizons, where there are several."""
    if len(judgement.results) == 1:
        return []
    table = judgement.table[judgement.table["model"] != PERSISTENCE].reset_index(drop=True)
    columns: Columns = {
        "title": "Model",
        "horizon": "Candles ahead",
        "conclusion": "Conclusion",
        "missing": "Missing",
        "skill": ("Skill", _signed_skill),
        "p_holm": ("p-value, all counted", say.probability),
    }

    def _conclude(rows: pd.DataFrame) -> say.Claim:
        return say.claim(
            "{some} of {all} are better than “no change”; the p-values count all of them.",
            some=say.count(int(rows["conclusion"].isin([CHAMPION, BETTER]).sum())),
            all=say.count(len(rows), "pair of model and horizon", "pairs of model and horizon"),
        )

    shown = table.assign(title=[str(say.model(name)) for name in table["model"]])
    return [Table("models", shown, _conclude, columns)]


def _beside(judgement: Judgement, result: Result) -> list[Table]:
    """The models judged beside our own, where ours were fitted."""
    table = judgement.beside
    if table.empty:
        return []
    table = table[table["horizon"] == result.horizon].reset_index(drop=True)
    table["title"] = [str(say.model(name)) for name in table["model"]]
    table["set"] = table["in_set"].map({True: "yes", False: "no"})
    columns: Columns = {
        "title": "Model",
        "skill": ("Skill", _signed_skill),
        "p": ("p-value of the model judged against it", say.probability),
        "set": "In the confidence set",
    }

    def _conclude(rows: pd.DataFrame) -> say.Claim:
        return say.claim(
            "Of the models judged and our own {best} has the smallest error, on the {candles} that all forecast.",
            best=say.word(rows["title"].iloc[1]),
            candles=say.count(int(rows["rows"].iloc[0]), "candle"),
        )

    return [Table("beside", table, _conclude, columns)]


def _checks(judgement: Judgement) -> Table | say.Claim:
    if not judgement.findings:
        return say.claim("No check found anything.")
    table = pd.DataFrame([finding._asdict() for finding in judgement.findings])
    table["suspicion"] = table["suspected"].map({True: "yes", False: "no"})
    columns: Columns = {"check": "Check", "sentence": "Found", "rows": "Forecasts", "suspicion": "Suspected"}

    def _conclude(rows: pd.DataFrame) -> say.Claim:
        return say.claim(
            "{found}, of which {suspected} may have raised the skill unfairly.",
            found=say.count(len(rows), "finding"),
            suspected=say.count(int((rows["suspicion"] == "yes").sum())),
        )

    return Table("checks", table, _conclude, columns)


def _distribution(result: Result) -> list[say.Claim]:
    """What the quantiles of the best model are worth; nothing where it gives none."""
    found = distribution_scores(result.of_leader, result.horizon)
    if not found:
        return []
    fall = "fall" if found["pit_p"] >= result.verdict.alpha else "do not fall"
    begin = "The distribution of {model} has a CRPS of {crps}, a skill of {skill} against past moves by volatility; "
    return [
        say.claim(
            begin + "outcomes {fall} evenly into its quantiles ({p}).",
            model=say.model(result.leader),
            crps=say.bp(found["crps_bp"], 3),
            skill=_skill(found["crps_skill"]),
            fall=say.word(fall),
            p=say.pvalue(found["pit_p"]),
        )
    ]


def _changes(result: Result) -> list[say.Claim]:
    """Looks and candles with which the verdict would be another."""
    row = result.verdict.table.set_index("model").loc[result.leader].to_dict()
    said = [evaluation.looks_allowed(result)]
    if row["beats"] or row["ratio"] >= 1 or row["z"] >= 0:
        return said
    needed = result.verdict.rows * (float(norm.isf(result.verdict.alpha / result.tests)) / row["z"]) ** 2
    decided = say.claim(
        "With the same skill about {needed} would decide it for {model}; {rows} are judged.",
        model=say.model(result.leader),
        needed=say.count(round(needed), "candle"),
        rows=say.count(result.verdict.rows),
    )
    return [*said, decided]
