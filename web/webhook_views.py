"""What the API shows and takes of webhooks."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.api_tables import Webhook, WebhookDelivery
from schemas.messages import MAX_URL
from schemas.states import DeliveryState, Verdict
from web import examples


class NewWebhook(BaseModel):
    """Where to push results."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.NEW_WEBHOOK})

    url: str = Field(min_length=1, max_length=MAX_URL, description="https, on a host of TAMPERWATCH_WEBHOOKS__ALLOWED_HOSTS")
    verdict: Verdict | None = Field(default=None, description="only these")


class WebhookView(BaseModel):
    """A webhook."""

    model_config = ConfigDict(json_schema_extra={"example": examples.WEBHOOK})

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

    model_config = ConfigDict(json_schema_extra={"example": examples.MADE_WEBHOOK})

    secret: str = Field(description="signs every delivery (Standard Webhooks); it is not shown again")


class DeliveryView(BaseModel):
    """One result on its way to one webhook."""

    model_config = ConfigDict(json_schema_extra={"example": examples.DELIVERY})

    id: int
    result_id: int
    state: DeliveryState
    attempts: int
    next_at: datetime = Field(description="of the next try, while it waits")
    http_status: int | None
    words: str = Field(description="what went wrong in the last try")
    created_at: datetime
    ended_at: datetime | None


def webhook_view(row: Webhook) -> WebhookView:
    return WebhookView(by=row.who, **row.model_dump(include=set(WebhookView.model_fields)))


def made_webhook(row: Webhook) -> MadeWebhook:
    return MadeWebhook(**webhook_view(row).model_dump(), secret=row.secret)


def delivery_view(row: WebhookDelivery) -> DeliveryView:
    return DeliveryView.model_validate(row.model_dump(include=set(DeliveryView.model_fields)))
