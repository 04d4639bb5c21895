"""Addresses that results are pushed to, and the log of what was sent."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from schemas.api_tables import Webhook, WebhookDelivery
from schemas.messages import MAX_URL
from schemas.states import DeliveryState, Verdict
from storage import webhooks
from web.access import Admin
from web.context import ContextDep
from web.problems import documented
from web.routes.results import MAX_NUMBER
from web.webhooks import check_address

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

WebhookId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]


class NewWebhook(BaseModel):
    """Where to push results."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"url": "https://shop.example.com/hooks/tamperwatch", "verdict": "flag"}}
    )

    url: str = Field(min_length=1, max_length=MAX_URL, description="https, on a host of TAMPERWATCH_WEBHOOKS__ALLOWED_HOSTS")
    verdict: Verdict | None = Field(default=None, description="only these")


class WebhookView(BaseModel):
    """A webhook."""

    id: str
    url: str
    verdict: Verdict | None
    by: str
    cursor: int = Field(description="results up to this one have a delivery")
    created_at: datetime
    stopped_at: datetime | None
    stopped_why: str


class MadeWebhook(WebhookView):
    """A webhook as its maker sees it, once."""

    secret: str = Field(description="signs every delivery (Standard Webhooks); it is not shown again")


class DeliveryView(BaseModel):
    """One result on its way to one webhook."""

    id: int
    result_id: int
    state: DeliveryState
    attempts: int
    next_at: datetime = Field(description="of the next try, while it waits")
    http_status: int | None
    words: str = Field(description="what went wrong in the last try")
    created_at: datetime
    ended_at: datetime | None


@router.post("", response_model=MadeWebhook, status_code=HTTPStatus.CREATED, responses=documented(), summary="Push results")
def create(context: ContextDep, caller: Admin, given: NewWebhook) -> MadeWebhook:
    """From now on. Each delivery is one result as `GET /v1/results/{id}` shows it, in an envelope of type `result.created`.

    Signed as in the Standard Webhooks specification; check `webhook-signature` and that `webhook-timestamp` is recent, and
    drop a `webhook-id` that you have. Whatever is not answered 2xx is tried again; 410 stops the webhook.
    """
    check_address(context, given.url)
    with context.database.write() as session:
        row = webhooks.create(session, given.url, given.verdict, caller.who)
        return MadeWebhook(**_view(row).model_dump(), secret=row.secret)


@router.get("", response_model=list[WebhookView], responses=documented(), summary="All webhooks")
def show_all(context: ContextDep, _caller: Admin) -> list[WebhookView]:
    with context.database.read() as session:
        return [_view(row) for row in webhooks.webhooks(session)]


@router.delete("/{webhook_id}", status_code=HTTPStatus.NO_CONTENT, responses=documented(404), summary="Push no more")
def delete(context: ContextDep, _caller: Admin, webhook_id: WebhookId) -> None:
    """Its deliveries are forgotten, those that wait too."""
    with context.database.write() as session:
        webhooks.delete(session, webhook_id)


@router.get("/{webhook_id}/deliveries", response_model=list[DeliveryView], responses=documented(404), summary="What was sent")
def deliveries(
    context: ContextDep,
    _caller: Admin,
    webhook_id: WebhookId,
    state: Annotated[DeliveryState | None, Query(description="only these")] = None,
    before: Annotated[int | None, Query(ge=1, le=MAX_NUMBER, description="for the next page: the last id you have")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[DeliveryView]:
    """Newest first, with what became of each."""
    with context.database.read() as session:
        webhooks.get(session, webhook_id)
        return [_delivery(row) for row in webhooks.deliveries(session, webhook_id, state, before, limit)]


@router.post(
    "/{webhook_id}/deliveries/{number}/retry", response_model=DeliveryView, responses=documented(404), summary="Send one again"
)
def retry(
    context: ContextDep, _caller: Admin, webhook_id: WebhookId, number: Annotated[int, Path(ge=1, le=MAX_NUMBER)]
) -> DeliveryView:
    """With all its tries before it; a webhook that was stopped goes on."""
    with context.database.write() as session:
        return _delivery(webhooks.try_again(session, webhook_id, number))


def _view(row: Webhook) -> WebhookView:
    return WebhookView(by=row.who, **row.model_dump(include=set(WebhookView.model_fields)))


def _delivery(row: WebhookDelivery) -> DeliveryView:
    return DeliveryView.model_validate(row.model_dump(include=set(DeliveryView.model_fields)))
