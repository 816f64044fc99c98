"""How the documents become a site: Markdown, a theme with system fonts, and nothing from another host."""

from btcml import __version__

project = "btcml"
author = "The btcml developers"
copyright = author  # noqa: A001 - Sphinx's own name
version = release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["architecture.intro.txt"]
templates_path = ["_templates"]  # takes the link to another host out of the footer
html_theme = "furo"
html_title = f"btcml {version}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"footer_icons": []}
