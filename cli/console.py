"""The two consoles: answers go to stdout, progress and errors to stderr, so that `--json` can be piped."""

from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from schemas.errors import InvalidInput
from schemas.settings import SECRETS_DIR_VARIABLE, Settings
from web.wording import shown

stdout = Console()
stderr = Console(stderr=True)

_BROKER_SCHEMES = ("redis", "rediss", "redis+socket")
VERDICT_STYLE = {"flag": "bold red", "review": "yellow", "pass": "green"}


def progress_bar() -> Progress:
    """A bar with count, elapsed time and the time that is left."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr,
    )


def plain(text: str) -> str:
    """Text from outside for a console that reads markup: neither tags nor control characters in it take effect."""
    return escape(shown(text))


def load_settings() -> Settings:
    """Settings from the environment.

    Raises:
        InvalidInput: naming each variable that is wrong.
    """
    try:
        settings = Settings()
    except SettingsError as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise InvalidInput(f"the environment holds wrong settings: {error}{cause}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"a file in the folder {SECRETS_DIR_VARIABLE} cannot be read: {error}") from error
    except ValidationError as error:
        wrong = [f"\n  TAMPERWATCH_{'__'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors()]
        raise InvalidInput("the environment holds wrong settings:" + "".join(wrong)) from error
    _check_broker(settings.broker_url)
    return settings


def _check_broker(url: str) -> None:
    """Raises InvalidInput: Celery would, much later, and in its own words."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in _BROKER_SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise InvalidInput("TAMPERWATCH_BROKER_URL must be redis://…, rediss://… or redis+socket:///…")
