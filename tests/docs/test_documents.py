"""The documents hold together: the reference is the code's, links lead somewhere, the site fetches nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "docs"))
from btcml.cli import make_parser
from btcml.forecast.metrics import METRICS
from btcml.serve.api import create_app
from btcml.settings import Settings

import build
from documents import DOCUMENTS, ROOT


@pytest.fixture(scope="module")
def pages(migrated_store, settings):
    """The generated pages, from this test's own database."""
    made = {
        "reference/settings.md": build.settings_page(),
        "reference/commands.md": build.commands_page(),
        "reference/routes.md": build.routes_page(migrated_store),
        "reference/contract.md": build.contract_page(),
        "reference/metrics.md": build.metrics_page(),
        "reference/models.md": build.models_page(),
        "architecture.md": build.architecture(),
    }
    assert settings.btcml_source == "simulated"
    return made


def test_the_reference_is_what_the_code_says(pages, owner):
    """Nothing is missing and nothing is old: otherwise run make docs."""
    pages = pages | {"reference/tables.md": build.tables_page(owner)}
    kept = {path: (ROOT / "docs" / path).read_text(encoding="utf-8") for path in pages}
    assert {path for path, page in pages.items() if kept[path] != page} == set(), "run make docs"


def test_every_setting_route_table_command_and_metric_is_there(pages, migrated_store, owner):
    """By name, independently of how the pages are made."""
    tables = build.tables_page(owner)
    with owner.connect() as connection:
        query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
        assert all(f"## {name}\n" in tables for name in connection.execute(text(query)).scalars())
    assert all(f"`{name.upper()}`" in pages["reference/settings.md"] for name in Settings.model_fields)
    assert all(
        f" {path}`" in pages["reference/routes.md"]
        for path in create_app(Settings(), migrated_store).openapi()["paths"]
    )
    assert all(f"## btcml {verb}\n" in pages["reference/commands.md"] for verb in build._choices(make_parser()))
    assert all(f"`{name}`" in pages["reference/metrics.md"] for name in METRICS)


def test_links_lead_somewhere():
    """Relative links of every document name a file of the checkout."""
    broken = []
    for path in DOCUMENTS:
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        local = [target for target in targets if not target.startswith(("http:", "https:"))]
        broken += [f"{path.relative_to(ROOT)}: {target}" for target in local if not (path.parent / target).exists()]
    assert not broken


def test_the_site_is_whole_and_fetches_nothing(tmp_path):
    """Every document is a page, every link of a page is a page, and no address is foreign."""
    made = build.build_site(tmp_path)
    assert len(made) == len(DOCUMENTS) - 1
    for page in made:
        html = page.read_text(encoding="utf-8")
        assert not re.search(r'(?:src|href)\s*=\s*"https?://', html)
        links = set(re.findall(r'href="([^"#:]+\.html)', html))
        assert {link for link in links if not (tmp_path / link).exists()} == set(), page.name


def test_the_documents_name_no_machine():
    """No path, host or address of whoever wrote them."""
    for path in DOCUMENTS:
        assert not re.search(r"/(?:work|root|home/\w+)/", path.read_text(encoding="utf-8")), path


def test_every_target_of_make_is_in_the_readme():
    """What `make help` lists, the first page lists."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)) - {"help"}
    assert {name for name in targets if f"`make {name}`" not in readme} == set()


def test_the_pictures_of_the_readme_are_small():
    """Made by make pictures; each under 300 kB."""
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))
    assert {picture.name for picture in pictures} == {"report.png", "dashboard.png"}
    assert all(picture.stat().st_size < 300_000 for picture in pictures)
