"""The documents: the reference matches the code, links lead to files, the site fetches nothing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from sqlalchemy import text

import btcml
from btcml.cli import make_parser
from btcml.forecast.metrics import METRICS
from btcml.serve.api import create_app
from btcml.settings import Settings

from tests.docs.documents import DOCUMENTS, PAGES, ROOT
from tools import reference


@pytest.fixture(scope="module")
def pages(migrated_store, settings):
    """The generated pages, from this test's own database."""
    made = {
        "reference/settings.md": reference.settings_page(),
        "reference/commands.md": reference.commands_page(),
        "reference/routes.md": reference.routes_page(migrated_store),
        "reference/contract.md": reference.contract_page(),
        "reference/metrics.md": reference.metrics_page(),
        "reference/models.md": reference.models_page(),
        "reference/claims.md": reference.claims_page(),
        "architecture.md": reference.architecture(),
    }
    assert settings.btcml_source == "simulated"
    return made


def test_the_reference_matches_the_code(pages, owner):
    """Nothing is missing and nothing is old: otherwise run make docs."""
    pages = pages | {"reference/tables.md": reference.tables_page(owner)}
    kept = {path: (ROOT / "docs" / path).read_text(encoding="utf-8") for path in pages}
    assert {path for path, page in pages.items() if kept[path] != page} == set(), "run make docs"


def test_every_setting_route_table_command_and_metric_is_there(pages, migrated_store, owner):
    """By name, independently of how the pages are made."""
    tables = reference.tables_page(owner)
    with owner.connect() as connection:
        query = "SELECT relname FROM pg_class WHERE relnamespace = 'btcml'::regnamespace AND relkind IN ('r', 'v')"
        assert all(f"## {name}\n" in tables for name in connection.execute(text(query)).scalars())
    assert all(f"`{name.upper()}`" in pages["reference/settings.md"] for name in Settings.model_fields)
    assert all(
        f" {path}`" in pages["reference/routes.md"]
        for path in create_app(Settings(), migrated_store).openapi()["paths"]
    )
    assert all(f"## btcml {verb}\n" in pages["reference/commands.md"] for verb in reference._choices(make_parser()))
    assert all(f"`{name}`" in pages["reference/metrics.md"] for name in METRICS)


def test_links_lead_somewhere():
    """Relative links of every document name a file of the checkout."""
    broken = []
    for path in DOCUMENTS:
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        local = [target for target in targets if not target.startswith(("http:", "https:"))]
        broken += [f"{path.relative_to(ROOT)}: {target}" for target in local if not (path.parent / target).exists()]
    assert not broken


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as make docs builds it; a warning, such as a link that leads nowhere, is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "-b",
        "html",
        "-d",
        out / "trees",
        ROOT / "docs",
        out / "html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_every_document_is_a_page_of_the_site(site):
    """And every link of a page leads to a file beside it, so that it opens from a folder."""
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in PAGES}
    assert {page for page in pages if not (site / page).is_file()} == set()
    for page in site.rglob("*.html"):
        targets = re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8"))
        assert {target for target in targets if not (page.parent / target).exists()} == set(), page.name


def test_the_site_fetches_nothing_from_another_host(site):
    """No page names an address elsewhere, no style sheet imports a font."""
    for page in site.rglob("*.html"):
        assert not re.search(r'(?:src|href|action)\s*=\s*"(?:https?:)?//', page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r'(?:url\(|@import)\s*["\']?(?:https?:)?//', sheet.read_text(encoding="utf-8")), sheet


def test_the_documents_name_no_machine():
    """No path, host or address of an author's machine."""
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


def test_the_hooks_before_a_commit_are_those_of_make_check():
    """The same commands, but for how each gets the names of the notebooks."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncheck:")[1].split("\n\n")[0]
    commands = re.findall(r"^\t@\$\(BIN\)/(.+)$", recipe, re.MULTILINE)
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in config["repos"][0]["hooks"]]
    assert hooks == [command.removesuffix(" $$(git ls-files '*.ipynb')") for command in commands]


def test_the_changelog_has_the_version_of_the_package():
    """In the form of Keep a Changelog, newest first."""
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", btcml.__version__]
