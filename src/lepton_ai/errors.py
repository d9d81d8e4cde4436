"""The exceptions of Lepton: one tree, each with an HTTP-like status and a stable code.

    LeptonError                      500  internal_error
    ├── EngineDied                   503  engine_died
    ├── InvalidRequest               400  invalid_request
    │   ├── ConstraintTooComplex     400  constraint_too_complex
    │   ├── ContextLengthExceeded    400  context_length_exceeded
    │   └── TemplateError            400  template_error
    ├── ModelNotFound                404  model_not_found
    ├── InvalidModel                 422  invalid_model
    │   ├── UnsupportedModel         422  unsupported_model
    │   └── WeightMismatch           422  weight_mismatch
    ├── DownloadFailed               502  download_failed
    │   └── DigestMismatch           502  digest_mismatch
    ├── Overloaded                   503  overloaded
    ├── OutOfMemory                  503  out_of_memory
    ├── StorageError                 507  storage_error
    └── HardwareUnsupported          501  hardware_unsupported

A message names the argument, what was expected and what came. ``param`` names the argument for machines.
``TruncationWarning`` is a warning: the caller asked for what it tells of.
"""

from __future__ import annotations

__all__ = [
    "ConstraintTooComplex",
    "ContextLengthExceeded",
    "DigestMismatch",
    "DownloadFailed",
    "EngineDied",
    "HardwareUnsupported",
    "InvalidModel",
    "InvalidRequest",
    "LeptonError",
    "ModelNotFound",
    "OutOfMemory",
    "Overloaded",
    "StorageError",
    "TemplateError",
    "TruncationWarning",
    "UnsupportedModel",
    "WeightMismatch",
    "rebuild",
]


class LeptonError(Exception):
    """Base of all errors that Lepton raises on purpose.

    ``status`` and ``code`` belong to the class: the table above has them. ``message`` is what ``str`` gives, ``param``
    the argument that is wrong, None where there is none.
    """

    status: int = 500
    code: str = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def to_dict(self) -> dict[str, object]:
        """The error as the object that ``--json`` and the server print."""
        return {"message": self.message, "code": self.code, "status": self.status, "param": self.param}


class EngineDied(LeptonError):
    """The process of an engine has ended under its client."""

    status, code = 503, "engine_died"


class InvalidRequest(LeptonError):
    """An argument of the caller is wrong."""

    status, code = 400, "invalid_request"


class ConstraintTooComplex(InvalidRequest):
    """What a text must look like takes more time or memory to follow than a request may have."""

    code = "constraint_too_complex"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and requested output do not fit the model's context."""

    code = "context_length_exceeded"


class TemplateError(InvalidRequest):
    """A chat template is malformed, unsafe, or ran past its budget."""

    code = "template_error"


class ModelNotFound(LeptonError):
    """No model has this name, and no file this path."""

    status, code = 404, "model_not_found"


class InvalidModel(LeptonError):
    """A model file is malformed, truncated or hostile."""

    status, code = 422, "invalid_model"


class UnsupportedModel(InvalidModel):
    """A well-formed model whose architecture, tensor type or option Lepton does not run."""

    code = "unsupported_model"


class WeightMismatch(InvalidModel):
    """Tensors of a checkpoint are missing, unexpected or mis-shaped."""

    code = "weight_mismatch"


class DownloadFailed(LeptonError):
    """A source could not be reached or answered with an error."""

    status, code = 502, "download_failed"


class DigestMismatch(DownloadFailed):
    """What was downloaded is not what was pinned."""

    code = "digest_mismatch"


class Overloaded(LeptonError):
    """No capacity now; the same request may succeed later, ``retry_after_s`` seconds from now at the soonest."""

    status, code = 503, "overloaded"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class OutOfMemory(LeptonError):
    """The memory budget does not hold what was asked."""

    status, code = 503, "out_of_memory"


class StorageError(LeptonError):
    """A disk is full, read-only or failing."""

    status, code = 507, "storage_error"


class HardwareUnsupported(LeptonError):
    """The machine lacks an instruction set or device that was asked for."""

    status, code = 501, "hardware_unsupported"


def rebuild(code: str, message: str, param: str | None) -> LeptonError:
    """The error that ``to_dict`` described, as it comes from another process; of an unknown code, a LeptonError."""
    kinds: list[type[LeptonError]] = [LeptonError]
    for kind in kinds:  # which grows: the tree, from its root
        if kind.code == code:
            return kind(message, param=param)
        kinds += kind.__subclasses__()
    return LeptonError(message, param=param)


class TruncationWarning(UserWarning):
    """A text was cut to the length that the caller gave."""
