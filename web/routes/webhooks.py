"""Addresses that results are pushed to, and the log of what was sent."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query

from schemas.states import DeliveryState
from storage import webhooks
from web.access import Admin
from web.context import ContextDep
from web.problems import documented
from web.routes.results import MAX_NUMBER
from web.webhook_views import DeliveryView, MadeWebhook, NewWebhook, WebhookView, delivery_view, made_webhook, webhook_view
from web.webhooks import check_address

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

WebhookId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]


@router.post("", response_model=MadeWebhook, status_code=HTTPStatus.CREATED, responses=documented(), summary="Push results")
def create(context: ContextDep, caller: Admin, given: NewWebhook) -> MadeWebhook:
    """From now on. Each delivery is one result as `GET /v1/results/{id}` shows it, in an envelope of type `result.created`.

    Signed as in the Standard Webhooks specification; check `webhook-signature` and that `webhook-timestamp` is recent, and
    drop a `webhook-id` that you have. Whatever is not answered 2xx is tried again; 410 stops the webhook.
    """
    check_address(context, given.url)
    with context.database.write() as session:
        row = webhooks.create(session, given.url, given.verdict, caller.who)
        return made_webhook(row)


@router.get("", response_model=list[WebhookView], responses=documented(), summary="All webhooks")
def show_all(context: ContextDep, _caller: Admin) -> list[WebhookView]:
    with context.database.read() as session:
        return [webhook_view(row) for row in webhooks.webhooks(session)]


@router.delete("/{webhook_id}", status_code=HTTPStatus.NO_CONTENT, responses=documented(404), summary="Push no more")
def delete(context: ContextDep, caller: Admin, webhook_id: WebhookId) -> None:
    """Its deliveries are forgotten, those that wait too."""
    with context.database.write() as session:
        webhooks.delete(session, webhook_id, caller.who)


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
        return [delivery_view(row) for row in webhooks.deliveries(session, webhook_id, state, before, limit)]


@router.post(
    "/{webhook_id}/deliveries/{number}/retry", response_model=DeliveryView, responses=documented(404), summary="Send one again"
)
def retry(
    context: ContextDep, _caller: Admin, webhook_id: WebhookId, number: Annotated[int, Path(ge=1, le=MAX_NUMBER)]
) -> DeliveryView:
    """With all its tries before it; a webhook that was stopped goes on."""
    with context.database.write() as session:
        return delivery_view(webhooks.try_again(session, webhook_id, number))
