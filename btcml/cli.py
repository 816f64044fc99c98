"""The command line: argument parsing only; the verbs live in `btcml.pipeline` and `btcml.serve`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from btcml import __version__
from btcml.processor import limit_instructions

limit_instructions()  # before NumPy is loaded

from btcml.commands import VERBS
from btcml.commands.session import render
from btcml.errors import BtcmlError, UsageError
from btcml.system import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        msg = f"{message}: see {self.prog} --help"
        raise UsageError(msg)


def make_parser() -> argparse.ArgumentParser:
    """Parser of all verbs; each sets ``run``, a function of the parsed arguments."""
    parser = _Parser(prog="btcml", description="Can the next candle be forecast, how well, what does the model say?")
    parser.add_argument("--version", action="version", version=f"btcml {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    for name, (declare, summary) in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary)
        verb.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        declare(verb)
    return parser


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _show(result: Any, *, as_json: bool) -> None:
    if as_json:
        plain = _plain(result) if is_dataclass(result) else result
        answer = plain if isinstance(plain, dict) else {"result": plain}
        sys.stdout.write(json.dumps({"status": "ok"} | answer, default=_plain) + "\n")
    elif isinstance(result, str):
        sys.stdout.write(result + "\n")
    elif result is not None:
        sys.stdout.write(render(result) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        Exit status: 0, or 2 for the user's mistake, 1 for a failure, always with one sentence; that of a verb that
        sets ``status`` of its arguments.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that locks are released and servers stopped
    end_with_parent()
    as_json = "--json" in (sys.argv if argv is None else argv)
    try:
        args = make_parser().parse_args(argv)
        _show(args.run(args), as_json=as_json)
    except BtcmlError as error:
        return _fail(error, str(error), error.exit_code, as_json=as_json)
    except KeyboardInterrupt:
        return _fail(None, "interrupted: what was finished is kept", 130, as_json=as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        sentence = f"a system call failed ({error}): free disk space or correct the path, then run again"
        return _fail(error, sentence, 1, as_json=as_json)
    return int(getattr(args, "status", 0))


def _fail(error: BaseException | None, sentence: str, status: int, *, as_json: bool) -> int:
    if error is not None and os.environ.get("BTCML_DEBUG"):
        raise error
    sys.stderr.write(f"btcml: {' '.join(sentence.split())}\n")
    if as_json:
        sys.stdout.write(json.dumps({"status": "error", "error": sentence}) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
