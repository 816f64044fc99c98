"""Sentences that keep the values they were completed from, so that another language can complete its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Sentence(str):
    """An English text, with the template and the values that made it.

    It is a text wherever it is shown or stored; a report completes `template` in its language.

    Attributes
    ----------
    template
        Text with named placeholders.
    given
        Texts of numbers, dates and names as English writes them, or sentences.

    Examples
    --------
    >>> gap = Sentence("{number} gap" + "s" * (2 > 1), number=2)
    >>> found = Sentence("{gaps} after {time}", gaps=gap, time="2025-01-01")
    >>> found, found.given["gaps"].template
    ('2 gaps after 2025-01-01', '{number} gaps')
    >>> found.parts == Sentence.of(found.parts).parts
    True
    """

    __slots__ = ("given", "template")
    template: str
    given: dict[str, str]

    def __new__(cls, template: str, /, **values: object) -> Self:
        """Complete a template."""
        made = super().__new__(cls, template.format(**values))
        made.template = template
        made.given = {name: value if isinstance(value, str) else str(value) for name, value in values.items()}
        return made

    def __reduce__(self) -> tuple[Callable[..., str], tuple[list[Any]]]:
        """Keep the values in copies, and between processes."""
        return Sentence.of, (self.parts,)

    @property
    def parts(self) -> list[Any]:
        """Template and values as JSON has them."""
        return [self.template, {k: v.parts if isinstance(v, Sentence) else v for k, v in self.given.items()}]

    @staticmethod
    def of(parts: str | list[Any]) -> str:
        """Return the sentence of its parts; a text that was stored without them stays one."""
        if isinstance(parts, str):
            return parts
        template, values = parts
        return Sentence(template, **{name: Sentence.of(value) for name, value in values.items()})
