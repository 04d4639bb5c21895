"""What the HTTP API is told: where it listens, and what one request or one key may cost."""

import ipaddress

from pydantic import BaseModel, ConfigDict, Field, model_validator


class WebSettings(BaseModel):
    """The web role."""

    model_config = ConfigDict(extra="forbid")  # a misspelt variable is an error, not silence

    host: str = Field(default="127.0.0.1", description="address that `tamperwatch web` listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="port that `tamperwatch web` listens on; 0: any free one")
    trusted_proxies: str = Field(
        default="", description="addresses or networks whose X-Forwarded-For is believed, e.g. 10.0.0.0/8; empty: nobody's"
    )
    max_body_bytes: int = Field(default=200_000_000, gt=0, description="largest body of an upload, all its pictures together")
    max_files: int = Field(default=16, ge=1, le=1000, description="pictures in one upload at most")
    s3_buckets: str = Field(
        default="", description="buckets that API keys may name pictures in, comma separated; empty: none but our own pictures"
    )
    body_timeout_s: float = Field(default=60.0, gt=0, description="a request's body that has not arrived after this is refused")
    requests_per_minute: int = Field(
        default=600, ge=0, description="of one API key that has no rate of its own; 0: any number. Counted in Redis"
    )
    streams: int = Field(default=50, ge=1, description="readers of the event stream at once in one process")
    stream_poll_s: float = Field(default=1.0, gt=0, description="how often the event stream looks for new results")
    idempotency_hours: float = Field(default=24.0, gt=0, description="for how long an Idempotency-Key is remembered")
    requests_kept_days: float = Field(
        default=30.0, gt=0, description="for how long `GET /v1/audits/{id}` knows an audit, and webhooks their deliveries"
    )
    session_idle_minutes: float = Field(default=60.0, gt=0, description="a person who asks for nothing this long is logged out")
    session_hours: float = Field(default=12.0, gt=0, description="and after this, however busy they are")
    login_tries: int = Field(
        default=10, ge=1, description="tries to log in under one name from one address in 15 minutes; counted in Redis"
    )
    login_tries_in_all: int = Field(default=100, ge=1, description="and under one name, or from one address, altogether")
    plain_http: bool = Field(
        default=False, description="pages are reached over http:// on this machine alone: their cookies go without `Secure`"
    )
    claim_minutes: float = Field(
        default=5.0, gt=0, description="a moderator who is away, or whose page lost its connection, keeps pictures this long"
    )
    shutdown_grace_s: float = Field(default=20.0, gt=0, description="after SIGTERM, time to finish the requests in hand")

    @model_validator(mode="after")
    def _plain_http_stays_here(self) -> "WebSettings":
        if self.plain_http and self.host != "localhost" and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError("plain_http is for a host of this machine alone (127.0.0.1, ::1, localhost); others need TLS")
        return self

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets of `s3_buckets`."""
        return tuple(part.strip() for part in self.s3_buckets.split(",") if part.strip())
