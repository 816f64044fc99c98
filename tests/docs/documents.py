"""The documents as data: fenced blocks with their info strings, and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
KINDS = {
    "bash": "run by every make test",
    "bash long": "run by make soak",
    "bash ci": "the first command of .ci/run",
    "bash server": "started, waited for, stopped, by make soak",
    "bash workshop": "run in a copy of the checkout that the Python blocks of the page have changed, by make soak",
    "bash docker": "needs a Docker engine: tests/operations/test_compose.py runs its parts",
    "bash mlforecast": "run where that package is installed, by make soak",
    "bash import": "run with a dump of an old database beside it",
    "bash record": "run with a series that has sealed forecasts",
    "python run": "run by make soak",
    "python file": "written into the workshop",
    "python append": "appended in the workshop",
}
_FENCE = re.compile(r"^```(\S+) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    path: Path
    language: str
    info: str
    code: str
    number: int

    @property
    def kind(self):
        word = re.split(r"[ =]", self.info)[0]
        return f"{self.language} {word}".strip()

    @property
    def argument(self):
        """What follows the first word of the info string."""
        return re.split(r"[ =]", self.info, maxsplit=1)[1]

    @property
    def name(self):
        return f"{self.path.relative_to(ROOT)}:{self.number}"


def blocks(*kinds):
    """Blocks of these kinds, of all documents."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            number = text[: match.start()].count("\n") + 1
            found.append(Block(path, match[1], match[2].strip(), match[3], number))
    return [block for block in found if not kinds or block.kind in kinds]
