"""People in front of the pages: a browser each, logged in or not."""

import re
from dataclasses import dataclass

import httpx2
from fastapi.testclient import TestClient

from schemas.states import Role
from storage import passwords, people
from storage.database import Database
from tests.web.made import Api

PASSWORD = "seven ducks in a row"
_TOKEN = re.compile(r'name="csrf_token" value="([0-9a-f]{64})"')
HTML = {"Accept": "text/html,application/xhtml+xml"}


@dataclass
class Browser:
    """A client with cookies of its own; it follows no redirect by itself."""

    client: TestClient

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.client.get(path, headers=HTML | headers, follow_redirects=False)

    def post(self, path: str, form: dict[str, str], **headers: str) -> httpx2.Response:
        return self.client.post(path, data=form, headers=HTML | headers, follow_redirects=False)

    def form_token(self, path: str = "/login") -> str:
        """The CSRF token of the page's form."""
        found = _TOKEN.search(self.get(path).text)
        assert found is not None
        return found[1]

    def log_in(self, name: str, password: str = PASSWORD, **more: str) -> httpx2.Response:
        return self.post("/login", {"name": name, "password": password, "csrf_token": self.form_token(), **more})

    @property
    def session_token(self) -> str | None:
        return self.client.cookies.get("__Host-tamperwatch") or self.client.cookies.get("tamperwatch")


def new_browser(api: Api, address: str = "198.51.100.7") -> Browser:
    """A browser that has never been here, over TLS."""
    return Browser(TestClient(api.app, base_url="https://testserver", raise_server_exceptions=False, client=(address, 50_000)))


def add_person(database: Database, name: str, role: Role = Role.MODERATOR, password: str | None = PASSWORD) -> None:
    """A person who may log in."""
    made = None if password is None else passwords.hashed(password, name)
    with database.write() as session:
        people.add(session, name, role, "tests", made)
