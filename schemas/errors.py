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
├── InternalError           internal_error      permanent, recorded after all attempts
├── ServiceError            transient: the same job may succeed later
│   ├── StoreUnavailable        store_unavailable
│   ├── BlobStoreUnavailable    blob_store_unavailable
│   ├── DiskFull                disk_full
│   ├── BrokerUnavailable       broker_unavailable
│   ├── ModelTimeout            model_timeout
│   ├── ModelFailed             model_failed
│   └── WorkerLost              worker_lost
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


class ModelTimeout(ServiceError):
    """The device gave no answer within the time limit."""

    code = "model_timeout"


class ModelFailed(ServiceError):
    """The network raised on this picture, alone as well as in its batch."""

    code = "model_failed"


class WorkerLost(ServiceError):
    """The worker died every time it held this picture."""

    code = "worker_lost"


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
