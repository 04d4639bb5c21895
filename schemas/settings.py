"""One settings class, read from `TAMPERWATCH_*` environment variables (nested with `__`). No secret has a default."""

import ipaddress
import os
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NestedSecretsSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.learning_settings import PromotionSettings, SelectionSettings
from schemas.retrain_settings import RetrainSettings, ScheduleSettings
from schemas.teacher_settings import TeacherSettings
from schemas.web_settings import WebSettings

SECRETS_DIR_VARIABLE = "TAMPERWATCH_SECRETS_DIR"
# A name, any name below one, or an address; with a port where it is not the scheme's own.
_ALLOWED_HOST = re.compile(r"((\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE)


def _listed(given: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",") if part.strip())


class _Group(BaseModel):
    """A misspelt variable is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


class LimitSettings(_Group):
    """What a picture may cost; checked before anything is decoded."""

    max_bytes: int = Field(default=50_000_000, gt=0, description="largest picture file, in bytes")
    max_pixels: int = Field(default=80_000_000, gt=0, description="largest width x height of a picture")


class BlobSettings(_Group):
    """Where picture bytes lie: a directory, or any S3 server."""

    backend: Literal["directory", "minio"] = Field(default="directory", description="directory, or minio for any S3 server")
    directory: Path = Field(default=Path("tamperwatch-blobs"), description="root of the directory backend")
    endpoint: str = Field(default="localhost:9000", description="host:port of the S3 server")
    bucket: str = Field(default="tamperwatch", description="bucket for pictures and models; made if missing")
    region: str = Field(default="us-east-1", description="region the bucket is in")
    secure: bool = Field(default=True, description="use TLS to the S3 server")
    access_key: SecretStr | None = Field(default=None, description="S3 access key; required by the minio backend")
    secret_key: SecretStr | None = Field(default=None, description="S3 secret key; required by the minio backend")

    @model_validator(mode="after")
    def _minio_has_keys(self) -> "BlobSettings":
        if self.backend == "minio" and (self.access_key is None or self.secret_key is None):
            raise ValueError("the minio backend needs TAMPERWATCH_BLOBS__ACCESS_KEY and TAMPERWATCH_BLOBS__SECRET_KEY")
        return self


class EngineSettings(_Group):
    """How the student runs."""

    name: Literal["auto", "openvino", "torch"] = Field(default="auto", description="auto: torch on cuda, else openvino")
    device: str = Field(default="cpu", description="cpu or cuda:N, one worker per device")
    threads: int = Field(default=0, ge=0, description="CPU threads of the engine; 0 takes all cores")
    compiled: bool = Field(default=False, description="torch.compile the torch engine")
    exact: bool = Field(default=True, description="float32 arithmetic on CPUs that would choose bfloat16")
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto", description="arithmetic of the torch engine; auto: bf16 on GPUs that have it, else float32"
    )
    memory_share: float = Field(
        default=0.4, gt=0, le=1, description="of the GPU's memory a measured batch size may use; the next version loads beside it"
    )
    model_cache: str = Field(
        default="~/.cache/tamperwatch/models",
        description="folder of the students fetched from the blob store; processes may share it",
    )


class WorkerSettings(_Group):
    """Batching, time limits and retries of an audit worker."""

    max_batch: int = Field(
        default=0, ge=0, le=1024, description="pictures per network call at most; 0: 16 on a CPU, measured at the start on a GPU"
    )
    max_wait_ms: float = Field(default=20.0, ge=0, description="longest time the first picture of a batch waits for company")
    predict_timeout_s: float = Field(default=60.0, gt=0, description="a picture without an answer after this is tried again")
    model_poll_s: float = Field(default=10.0, gt=0, description="how often a worker looks whether another version was made live")
    hang_exit_s: float = Field(default=120.0, gt=0, description="the worker exits when one network call lasts longer")
    stability_band: float = Field(
        default=0.2, ge=0, le=10, description="a score this near a threshold, in log-odds, gets a second look; 0 takes none"
    )
    reuse_results: bool = Field(
        default=True, description="a picture whose bytes the model version in use has audited is answered from the store"
    )
    perceptual_hash: bool = Field(
        default=False, description="keep a perceptual hash of each picture, for `tamperwatch similar`; needs the extra [similar]"
    )
    shadow_version: str = Field(
        default="",
        description="also scores pictures, unseen by anybody: a version, or `candidate` for the newest one; empty: none",
    )
    shadow_pictures: int = Field(default=1000, ge=1, description="pictures that version scores, all workers together")
    canary_version: str = Field(default="", description="a version that answers a share of the jobs in place of the live one")
    canary_share: float = Field(default=0.0, ge=0, le=1, description="that share; 0: none")
    share_high: int = Field(default=16, ge=1, le=1000, description="pictures of queue high served while all queues are full…")
    share_default: int = Field(default=4, ge=1, le=1000, description="…to this many of queue default…")
    share_bulk: int = Field(default=1, ge=1, le=1000, description="…and this many of queue bulk")
    max_attempts: int = Field(default=5, ge=1, description="tries before a transient error ends the job")
    retry_backoff_s: float = Field(default=2.0, gt=0, description="wait before the second try; doubles each time")
    retry_backoff_max_s: float = Field(default=60.0, gt=0, description="longest wait between tries")
    visibility_timeout_s: int = Field(default=120, ge=10, description="an unacknowledged message is delivered again after this")
    shutdown_grace_s: float = Field(default=10.0, ge=0, description="after SIGTERM, time to finish what is in hand")

    @model_validator(mode="after")
    def _waits_fit(self) -> "WorkerSettings":
        for name in ("retry_backoff_max_s", "predict_timeout_s"):
            if self.visibility_timeout_s <= getattr(self, name):
                raise ValueError(f"visibility_timeout_s must exceed {name}, or a picture in good hands is delivered twice")
        return self


class SubmitSettings(_Group):
    """How pictures are put on the queues."""

    max_queued: int = Field(
        default=100_000, ge=0, description="`submit` pauses while more messages wait in the queue it fills; 0 never pauses"
    )
    threads: int = Field(default=8, ge=1, le=64, description="pictures read and stored at once while submitting")
    digests: str = Field(
        default="~/.cache/tamperwatch/digests.db",
        description="file of what `submit` has read, so that a second run need not read it again; empty keeps none",
    )
    profiles_high: str = Field(default="", description="simulated deliveries for queue high where a submission names none")
    profiles_default: str = Field(default="", description="the same for queue default, e.g. wechat,facebook")
    profiles_bulk: str = Field(default="", description="the same for queue bulk")


class FetchSettings(_Group):
    """Which pictures workers may fetch by their URL. Nothing is fetched unless this names its host."""

    allowed_hosts: str = Field(
        default="", description="hosts that pictures are fetched from, e.g. img.example.com,*.example.org:8443; empty: none"
    )
    allowed_networks: str = Field(
        default="", description="networks those hosts may be in beside the public internet, e.g. 10.20.0.0/16; empty: none"
    )
    plain_http: bool = Field(default=False, description="fetch http:// as well; whoever is on the way can read and change it")
    timeout_s: float = Field(
        default=20.0, gt=0, description="longest time for one picture; never more than half the visibility timeout"
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, given: str) -> str:
        for host in _listed(given):
            if not _ALLOWED_HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host, *.host or host:port")
        return given

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, given: str) -> str:
        for network in _listed(given):
            ipaddress.ip_network(network)
        return given

    @property
    def hosts(self) -> tuple[str, ...]:
        """The allowed hosts, small letters."""
        return _listed(self.allowed_hosts.lower())

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The allowed networks."""
        return tuple(map(ipaddress.ip_network, _listed(self.allowed_networks)))


class WebhookSettings(FetchSettings):
    """Where results may be pushed to. Nothing is sent unless this names the host."""

    allowed_hosts: str = Field(default="", description="hosts that webhooks may lead to, as for fetching; empty: none")
    allowed_networks: str = Field(
        default="", description="networks those hosts may be in beside the public internet; empty: none"
    )
    plain_http: bool = Field(default=False, description="send to http:// as well; whoever is on the way can read it")
    timeout_s: float = Field(default=10.0, gt=0, description="longest time for one delivery")
    poll_s: float = Field(default=2.0, gt=0, description="how often the web role looks for new results to push")
    most_attempts: int = Field(default=10, ge=1, description="tries before a delivery has failed, over about a day and a half")


class TelemetrySettings(_Group):
    """What a role says of itself while it runs."""

    port: int = Field(default=0, ge=0, le=65535, description="serves /metrics, /healthz and /readyz over HTTP; 0 serves nothing")
    address: str = Field(
        default="127.0.0.1", description="which address that port is opened on; anyone who reaches it may read it"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="log lines as text, or one JSON object a line")
    stall_s: float = Field(
        default=120.0, gt=0, description="a worker that takes and ends nothing for this long while messages wait is not healthy"
    )
    traces_endpoint: str = Field(
        default="", description="OTLP/HTTP address for traces, e.g. http://collector:4318/v1/traces; empty sends none"
    )


class Settings(BaseSettings):
    """Everything a role can be told from outside."""

    model_config = SettingsConfigDict(env_prefix="TAMPERWATCH_", env_nested_delimiter="__", extra="forbid")

    database_url: str = Field(
        default="sqlite:///tamperwatch.db", description="SQLAlchemy URL: sqlite:///… or postgresql+psycopg://…"
    )
    broker_url: str = Field(default="redis://localhost:6379/0", description="Redis: redis://…, rediss://… or redis+socket:///…")
    blobs: BlobSettings = Field(default_factory=BlobSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    submit: SubmitSettings = Field(default_factory=SubmitSettings)
    fetch: FetchSettings = Field(default_factory=FetchSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)
    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    promotion: PromotionSettings = Field(default_factory=PromotionSettings)
    teacher: TeacherSettings = Field(default_factory=TeacherSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    retrain: RetrainSettings = Field(default_factory=RetrainSettings)
    web: WebSettings = Field(default_factory=WebSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then files: one in the folder that TAMPERWATCH_SECRETS_DIR names holds the value of
        the variable it is named after. Other files there are left alone.

        Raises:
            SettingsError: the folder is not there.
        """
        folder = os.environ.get(SECRETS_DIR_VARIABLE, "")
        if not folder:
            return init_settings, env_settings
        files = NestedSecretsSettingsSource(file_secret_settings, secrets_dir=folder, secrets_dir_missing="error")
        return init_settings, env_settings, files

    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)
