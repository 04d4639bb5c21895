"""Everything that can go wrong, each with a stable code that is stored, counted and shown.

TamperwatchError
├── PictureError            permanent: this picture can never be audited as it is
│   ├── EmptyPicture            empty
│   ├── UnreadableFile          unreadable
│   ├── UnsupportedFormat       unsupported_format
│   ├── TooLarge                too_large
│   ├── DecodeFailed            decode_failed
│   └── OutputFailed            output_failed
├── InvalidMessage          invalid_message     permanent
├── BlobMissing             blob_missing        permanent
├── BlobCorrupt             blob_corrupt        permanent
├── UrlRefused              url_refused         permanent
├── UrlGone                 url_gone            permanent
├── InternalError           internal_error      permanent, recorded after all attempts
├── ServiceError            transient: the same job may succeed later
│   ├── StoreUnavailable        store_unavailable
│   ├── BlobStoreUnavailable    blob_store_unavailable
│   ├── DiskFull                disk_full
│   ├── BrokerUnavailable       broker_unavailable
│   ├── UrlUnreachable          url_unreachable
│   ├── ModelTimeout            model_timeout
│   ├── ModelFailed             model_failed
│   ├── DeviceMemoryFull        device_memory_full
│   └── WorkerLost              worker_lost
├── RequestError            permanent: an answer of the HTTP API, never stored
│   ├── Unauthenticated         unauthenticated
│   ├── Forbidden               forbidden
│   ├── NotFound                not_found
│   ├── Conflict                conflict
│   ├── InvalidRequest          invalid_request
│   ├── IdempotencyMismatch     idempotency_mismatch
│   ├── RequestTimeout          request_timeout
│   ├── RateLimited             rate_limited
│   └── TooBusy                 too_busy
└── SetupError              permanent: shown to the person who started the command, never stored
    ├── InvalidInput            invalid_input
    ├── ModelInvalid            model_invalid
    ├── EnvironmentMissing      environment_missing
    └── TrainingDiverged        training_diverged

Codes are part of the contract with users: they may be added, never renamed. A permanent error ends a job; a
transient one is retried with back-off and ends the job under its own code only when the attempts are spent.
"""

from typing import ClassVar


class TamperwatchError(Exception):
    """Root of the tree. The message is written for the person who has to mend it."""

    code: ClassVar[str] = "error"
    permanent: ClassVar[bool] = True

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PictureError(TamperwatchError):
    """The bytes of one picture cannot be audited."""

    code = "picture_error"


class EmptyPicture(PictureError):
    """The file holds no bytes."""

    code = "empty"


class UnreadableFile(PictureError):
    """The file could not be opened or read: permissions, a broken link, a device error."""

    code = "unreadable"


class UnsupportedFormat(PictureError):
    """The bytes are not one of the accepted picture formats, whatever the name says."""

    code = "unsupported_format"


class TooLarge(PictureError):
    """More bytes or pixels than the limits allow; seen before decoding."""

    code = "too_large"


class DecodeFailed(PictureError):
    """An accepted format whose content is truncated or corrupt."""

    code = "decode_failed"


class OutputFailed(PictureError):
    """The result is stored, but its mask or overlay could not be written where it was asked for."""

    code = "output_failed"


class InvalidMessage(TamperwatchError):
    """A queue message that is not a valid audit message of a known version."""

    code = "invalid_message"


class BlobMissing(TamperwatchError):
    """The blob store holds no object under the key a job names."""

    code = "blob_missing"


class BlobCorrupt(TamperwatchError):
    """The bytes under a picture's key do not have the sha256 that the key names."""

    code = "blob_corrupt"


class UrlRefused(TamperwatchError):
    """We do not go where this URL leads: its form, scheme, host or address is not allowed here."""

    code = "url_refused"


class UrlGone(TamperwatchError):
    """The server of a URL answered, and not with a picture's bytes: 404, 403, an encoding that nobody asked for."""

    code = "url_gone"


class InternalError(TamperwatchError):
    """A defect of ours, recorded under its job so that the picture is not lost."""

    code = "internal_error"


class ServiceError(TamperwatchError):
    """Something the job depends on is away; the picture itself may be fine."""

    code = "service_error"
    permanent = False


class StoreUnavailable(ServiceError):
    """The SQL results store does not answer."""

    code = "store_unavailable"


class BlobStoreUnavailable(ServiceError):
    """The blob store does not answer."""

    code = "blob_store_unavailable"


class DiskFull(ServiceError):
    """No space is left where we have to write."""

    code = "disk_full"


class BrokerUnavailable(ServiceError):
    """Redis does not answer."""

    code = "broker_unavailable"


class UrlUnreachable(ServiceError):
    """The server of a URL gave no answer, a broken one, one that came too slowly, or asked to come again."""

    code = "url_unreachable"


class ModelTimeout(ServiceError):
    """The device gave no answer within the time limit."""

    code = "model_timeout"


class ModelFailed(ServiceError):
    """The network raised on this picture, alone as well as in its batch."""

    code = "model_failed"


class DeviceMemoryFull(ServiceError):
    """Memory ran out in a network call, for this picture alone as well as in its batch."""

    code = "device_memory_full"


class WorkerLost(ServiceError):
    """The worker died every time it held this picture."""

    code = "worker_lost"


class RequestError(TamperwatchError):
    """A request to the HTTP API that is not answered as asked."""

    code = "request_error"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        """`retry_after_s`: when the same request may be answered, where that is known."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unauthenticated(RequestError):
    """No API key was sent, or one that is unknown, expired or revoked."""

    code = "unauthenticated"


class Forbidden(RequestError):
    """The API key has not the scope that this needs."""

    code = "forbidden"


class NotFound(RequestError):
    """There is nothing of that number or name, or no such address."""

    code = "not_found"


class Conflict(RequestError):
    """What is asked does not fit what stands by now; look again, then decide anew."""

    code = "conflict"


class InvalidRequest(RequestError):
    """A field, header or body that is not as the API's description says."""

    code = "invalid_request"


class IdempotencyMismatch(RequestError):
    """An Idempotency-Key that came before with another request."""

    code = "idempotency_mismatch"


class RequestTimeout(RequestError):
    """The request's body did not arrive in time."""

    code = "request_timeout"


class RateLimited(RequestError):
    """More requests than the API key may make; the answer says when to come again."""

    code = "rate_limited"


class TooBusy(RequestError):
    """As many readers of the event stream as one process serves."""

    code = "too_busy"


class SetupError(TamperwatchError):
    """The command cannot start, or go on, as it was called."""

    code = "setup_error"


class InvalidInput(SetupError):
    """An argument, manifest or configuration is wrong; the message lists what."""

    code = "invalid_input"


class ModelInvalid(SetupError):
    """A model's files are missing, damaged, or do not match their card."""

    code = "model_invalid"


class EnvironmentMissing(SetupError):
    """A program, package, device or service this command needs is not there."""

    code = "environment_missing"


class TrainingDiverged(SetupError):
    """A loss or gradient became infinite or not a number; the message names the step and where its batch was saved."""

    code = "training_diverged"
