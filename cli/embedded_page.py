"""The page and the API over an embedded stack: a port for them, the process, and who may come in first."""

import http.client
import ipaddress
import socket
import threading
import time
import webbrowser
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cli.console import plain, stderr, stdout
from cli.interruption import Interruption
from cli.stack import EmbeddedStack
from schemas.errors import EnvironmentMissing
from schemas.states import Scope
from storage import api_keys, login_links
from storage.database import Database

FIRST_KEY: Final = "first key"
_ADMIN: Final = "admin"
_PORTS_TRIED: Final = 50
_START_S: Final = 120.0
_LOOK_S: Final = 0.5
_GRACE_S: Final = 5.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
_WAITING = threading.Event()


@dataclass(frozen=True)
class Listening:
    """Where the page listens."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host == "localhost" or (self.host != "" and ipaddress.ip_address(self.host).is_loopback)

    @property
    def address(self) -> str:
        """As a browser on this machine opens it."""
        host = _EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def place_to_listen(host: str, wanted: int, may_differ: bool) -> Listening:
    """A port that is free now.

    Args:
        host: address to listen on.
        wanted: port; 0 for any.
        may_differ: whether one of the next ports will do.

    Raises:
        EnvironmentMissing: none of them can be listened on.
    """
    last = min(65535, wanted + _PORTS_TRIED if may_differ else wanted)
    for port in range(wanted, last + 1):
        try:
            with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
                return Listening(host, found.getsockname()[1])
        except OSError as error:
            problem = error.strerror or str(error)
    what = f"{host}:{wanted}" if last == wanted else f"any port of {host} from {wanted} to {last}"
    raise EnvironmentMissing(f"cannot listen on {what}: {problem}; give another --host or --port (0: any free one)")


def start_page(stack: EmbeddedStack, listening: Listening) -> None:
    """Serve the page; returns when it answers.

    Raises:
        EnvironmentMissing: it does not; the message holds the end of its log.
    """
    variables = {
        "WEB__HOST": listening.host,
        "WEB__PORT": str(listening.port),
        "WEB__PLAIN_HTTP": str(listening.is_local),
        "TELEMETRY__PORT": "0",
    }
    child = stack.add_role("web", "web", grace_s=_GRACE_S, **variables)
    deadline_s = time.monotonic() + _START_S
    with stderr.status("starting"):
        while not _answers(listening):
            if not child.running or time.monotonic() > deadline_s:
                raise EnvironmentMissing(f"the page does not start; the end of its log:\n{child.log_tail()}")
            _WAITING.wait(_LOOK_S)
    stack.tell(f"{stack.verb}, which answers at {listening.address}")


def login_address(database: Database, listening: Listening, to: str = "/") -> str:
    """An address that logs the first admin in, once and within minutes, and leads on from there."""
    with database.write() as session:
        path = login_links.issue_for_admin(session, "tamperwatch up", _ADMIN)
    return f"{listening.address}{path}" + (f"&next={quote(to, safe='/')}" if to != "/" else "")


def first_key(database: Database) -> str | None:
    """A key to the API that may do everything, where there was never any; it cannot be shown again."""
    with database.write() as session:
        return None if api_keys.keys(session) else api_keys.create(session, FIRST_KEY, [Scope.ADMIN]).token


def show(name: str, value: str) -> None:
    """One line; what is to be copied is never wrapped nor read as markup."""
    stdout.print(f"{name:<37}", plain(value), sep="", highlight=False, soft_wrap=True)


def stay(stack: EmbeddedStack, address: str | None) -> None:
    """Look after everything until Ctrl-C or SIGTERM.

    Args:
        address: to open in a browser first; None opens none.

    Raises:
        EnvironmentMissing: a process keeps dying.
    """
    if address is not None and not webbrowser.open(address):
        stderr.print("no browser can be opened here; open the address yourself")
    stderr.print("Ctrl-C stops everything", style="dim")
    with Interruption() as interruption:
        while interruption.received is None:
            stack.supervise()
            _WAITING.wait(_LOOK_S)
    stderr.print("stopping …", style="dim")


def _answers(listening: Listening) -> bool:
    host = _EVERYWHERE.get(listening.host, listening.host)
    try:
        with closing(http.client.HTTPConnection(host, listening.port, timeout=5)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
