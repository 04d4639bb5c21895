"""Who calls, and whether they may: API keys with scopes."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from schemas.api_tables import ApiKey
from schemas.errors import Forbidden, InvalidRequest, Unauthenticated
from schemas.states import Scope
from storage import api_keys
from web.context import ContextDep

_bearer: Final = HTTPBearer(scheme_name="ApiKey", description="A key from `tamperwatch keys create`.", auto_error=False)


@dataclass(frozen=True)
class Caller:
    """Who a request is from."""

    key: ApiKey

    @property
    def who(self) -> str:
        """The name that is recorded with what they do."""
        return self.key.name

    def on_behalf_of(self, person: str | None) -> str:
        """The name that is recorded where a program's key is used for a person: `key/person`.

        Raises:
            InvalidRequest: a name that cannot be recorded.
        """
        if person is None:
            return self.who
        if not person.strip() or not person.isprintable() or "/" in person:
            raise InvalidRequest("by: a name of characters that can be shown, without '/'")
        return f"{self.who}/{person.strip()}"


def _caller(
    request: Request,
    context: ContextDep,
    scopes: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Caller:
    """The key of a request, counted and found to have the scopes.

    Raises:
        Unauthenticated, Forbidden, RateLimited
    """
    if credentials is None:
        raise Unauthenticated("send an API key: `Authorization: Bearer tw_…`")
    with context.database.read() as session:
        key = api_keys.authenticate(session, credentials.credentials)
        session.expunge(key)
    request.state.who = key.name
    per_minute = key.requests_per_minute
    context.rates.check(key.id, context.settings.web.requests_per_minute if per_minute is None else per_minute)
    if api_keys.wants_note(key):
        with context.database.write() as session:
            api_keys.note_use(session, key.id)
    for scope in map(Scope, scopes.scopes):
        if not key.may(scope):
            raise Forbidden(f"this needs an API key with the scope `{scope}`")
    return Caller(key)


Submitter = Annotated[Caller, Security(_caller, scopes=[Scope.SUBMIT.value])]
Reader = Annotated[Caller, Security(_caller, scopes=[Scope.READ.value])]
Reviewer = Annotated[Caller, Security(_caller, scopes=[Scope.REVIEW.value])]
Admin = Annotated[Caller, Security(_caller, scopes=[Scope.ADMIN.value])]
