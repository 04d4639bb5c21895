"""`tamperwatch users`: who may log in to the pages."""

import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from cli.console import load_settings, plain, stderr, stdout
from cli.options import By, person
from cli.store import open_store
from schemas.errors import InvalidInput
from schemas.states import Role
from storage import login_links, passwords, people

app = typer.Typer(help="People who may log in to the pages.", no_args_is_help=True)

_LARGEST_FILE: Final = 4096
Name = Annotated[str, typer.Argument(help="The person's name, from `users list`; capitals do not matter.")]
PasswordFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the password, - for standard input; without it you are asked.")
]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="As others will see it; stands beside everything the person does.")],
    role: Annotated[Role, typer.Option(help="viewer looks, moderator decides and draws, admin also changes models.")],
    password_file: PasswordFile = None,
    no_password: Annotated[bool, typer.Option("--no-password", help="Only addresses from `users link` let them in.")] = False,
    by: By = None,
) -> None:
    """Let a person in. The password is asked for twice, or read from a file; it is never given on the command line.

    \b
    Examples:
      tamperwatch users add anna --role moderator
      tamperwatch users add "Ben Okri" --role viewer --password-file - < password.txt
      tamperwatch users add carla --role admin --no-password && tamperwatch users link carla
    """
    if no_password and password_file is not None:
        raise InvalidInput("--no-password and --password-file do not go together")
    who = person(by)
    with closing(open_store(load_settings().database_url)) as database:
        made = None if no_password else passwords.hashed(_typed(password_file), name)
        with database.write() as session:
            row = people.add(session, name, role, who, made)
            stdout.print(f"{plain(row.name)} may log in as {role.value}", highlight=False)


@app.command("list")
def list_people() -> None:
    """List everybody with their role, and when they were last here.

    \b
    Example:
      tamperwatch users list
    """
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("name", "role", "state", "added (UTC)", "last login", "password of"):
        table.add_column(title)
    with closing(open_store(load_settings().database_url)) as database, database.read() as session:
        for row in people.people(session):
            dates = (_shown(row.created_at), _shown(row.last_login_at), _shown(row.password_changed_at))
            table.add_row(plain(row.name), row.role.value, "locked out" if row.disabled_at else "may log in", *dates)
    stdout.print(table)


@app.command("role")
def role(name: Name, role: Annotated[Role, typer.Argument(help="The new role.")], by: By = None) -> None:
    """Change what a person may do, from their next click on.

    \b
    Example:
      tamperwatch users role anna admin
    """
    who = person(by)
    with closing(open_store(load_settings().database_url)) as database, database.write() as session:
        row = people.get(session, name)
        people.set_role(session, row, role, who)
        stdout.print(f"{plain(row.name)} is {role.value}", highlight=False)


@app.command("password")
def password(name: Name, password_file: PasswordFile = None, by: By = None) -> None:
    """Give a person a new password, and log them out everywhere.

    \b
    Examples:
      tamperwatch users password anna
      tamperwatch users password anna --password-file new-password.txt
    """
    who = person(by)
    with closing(open_store(load_settings().database_url)) as database:
        with database.read() as session:
            shown = people.get(session, name).name
        made = passwords.hashed(_typed(password_file), shown)
        with database.write() as session:
            people.set_password(session, people.get(session, name), made, who)
    stdout.print(f"{plain(shown)} has a new password, and is logged out everywhere", highlight=False)


@app.command("disable")
def disable(name: Name, by: By = None) -> None:
    """Lock a person out, at once and everywhere. What they did stays recorded under their name.

    \b
    Example:
      tamperwatch users disable anna
    """
    _set_disabled(name, True, by)


@app.command("enable")
def enable(name: Name, by: By = None) -> None:
    """Let a person in again who was locked out.

    \b
    Example:
      tamperwatch users enable anna
    """
    _set_disabled(name, False, by)


@app.command("link")
def link(
    name: Name,
    address: Annotated[str | None, typer.Option(help="Where the pages are, if not where this machine's settings say.")] = None,
    forgotten: Annotated[bool, typer.Option("--forgotten", help="The password too: they choose another one.")] = False,
    by: By = None,
) -> None:
    """Print an address that logs a person in once, within ten minutes: for a first login, or a forgotten password.

    With --forgotten the old password opens nothing any more, and the person is logged out everywhere.

    \b
    Examples:
      tamperwatch users link anna
      tamperwatch users link anna --forgotten --address https://tamperwatch.example.org
    """
    who, settings = person(by), load_settings()
    web = settings.web
    host = f"[{web.host}]" if ":" in web.host else web.host
    with closing(open_store(settings.database_url)) as database, database.write() as session:
        row = people.get(session, name)
        if forgotten:
            people.set_password(session, row, None, who)
        path = login_links.issue(session, row, who)
    # Alone on standard output, so that a script can take it.
    stdout.print(f"{(address or f'http://{host}:{web.port}').rstrip('/')}{path}", markup=False, highlight=False, soft_wrap=True)
    stderr.print("works once, for ten minutes")


def _set_disabled(name: str, disabled: bool, by: str | None) -> None:
    who = person(by)
    with closing(open_store(load_settings().database_url)) as database, database.write() as session:
        row = people.get(session, name)
        people.set_disabled(session, row, disabled, who)
        stdout.print(f"{plain(row.name)} {'is locked out' if disabled else 'may log in again'}", highlight=False)


def _typed(file: Path | None) -> str:
    """A password from a file, or from the person at the terminal.

    Raises:
        InvalidInput: there is no such file, or nobody at a terminal.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise InvalidInput("nobody is there to be asked for a password; give --password-file FILE, or - for standard input")
        typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt="The same once more")
        return typed
    try:
        data = sys.stdin.buffer.read(_LARGEST_FILE) if str(file) == "-" else file.read_bytes()[:_LARGEST_FILE]
        text = data.decode()
    except OSError as error:
        raise InvalidInput(f"the password cannot be read from {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the password in {file} is not UTF-8 text") from error
    return text.partition("\n")[0].rstrip("\r")


def _shown(at: datetime | None) -> str:
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M")
