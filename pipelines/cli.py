"""The command line `jidoka`. Each group of commands has its module in `pipelines.commands`."""

from __future__ import annotations

import sys

import typer

from pipelines.commands import (
    calibrate,
    evaluate,
    learn,
    logs,
    operate,
    plant_streams,
    replays,
    run,
    streams,
    study,
    topics,
)
from pipelines.log_lines import last_words, speak
from schemas.errors import ConfigError, JidokaError

app = typer.Typer(
    name="jidoka",
    help="Event-sourced industrial monitoring agent: anomaly, evidence, guarded action, proven effect, replay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
operate.register(app)
study.register(app)
calibrate.register(app)
evaluate.register(app)
streams.register(app)
app.add_typer(logs.app, name="log")
app.add_typer(replays.app, name="replay")
app.add_typer(topics.app, name="topics")
app.add_typer(plant_streams.app, name="streams")
app.add_typer(logs.exports, name="export")
learn.register(app)


def main() -> None:
    """Run; a known fault is one line on stderr: 2 for configuration, 1 for the rest."""
    speak("text")
    try:
        app()
    except ConfigError as error:
        _fail(error, 2)
    except JidokaError as error:
        _fail(error, 1)
    except ExceptionGroup as group:
        known, rest = group.split(JidokaError)
        if known is None or rest is not None:
            raise
        _fail(_first(known), 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _fail(error: BaseException, status: int) -> None:
    last_words(str(error))
    sys.exit(status)


if __name__ == "__main__":
    main()
