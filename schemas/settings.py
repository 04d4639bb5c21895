"""One settings class, read from `TAMPERWATCH_*` environment variables (nested with `__`). No secret has a default."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


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


class WorkerSettings(_Group):
    """Batching, time limits and retries of an audit worker."""

    max_batch: int = Field(default=16, ge=1, le=1024, description="pictures per network call at most")
    max_wait_ms: float = Field(default=20.0, ge=0, description="longest time the first picture of a batch waits for company")
    predict_timeout_s: float = Field(default=60.0, gt=0, description="a picture without an answer after this is tried again")
    hang_exit_s: float = Field(default=120.0, gt=0, description="the worker exits when one network call lasts longer")
    stability_band: float = Field(
        default=0.2, ge=0, le=10, description="a score this near a threshold, in log-odds, gets a second look; 0 takes none"
    )
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
