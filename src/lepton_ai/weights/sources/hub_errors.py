"""Failures of ``huggingface_hub`` as Lepton's own: with what to do, without the URLs that its messages hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging

from lepton_ai.errors import DownloadFailed, LeptonError, ModelNotFound
from lepton_ai.weights.sources.references import HubReference
from lepton_ai.weights.sources.storage import is_full, storage_errors
from lepton_ai.weights.sources.urls import mask

_NETWORK = "check the network and HTTPS_PROXY, or name a mirror in HF_ENDPOINT"


@contextmanager
def hub_errors(reference: HubReference, folder: Path) -> Iterator[None]:
    """Turns what ``huggingface_hub`` raises into ModelNotFound, DownloadFailed or, of ``folder``, StorageError.

    What the HTTP library below it raises is no part of its interface and differs between its versions, so everything
    else is a failed download. Its warnings are not shown meanwhile: they hold signed URLs, and the error says the same.
    """
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except LeptonError:
        raise
    except Exception as error:
        raise _translated(error, reference, folder) from None
    finally:
        hub_logging.set_verbosity(verbosity)


def _translated(error: Exception, reference: HubReference, folder: Path) -> LeptonError:
    hub, repository, name = mask(constants.ENDPOINT), reference.repository, reference.name
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadFailed(f"{name} is not on this machine, and HF_HUB_OFFLINE forbids to ask {hub} for it")
    if isinstance(error, GatedRepoError):
        return DownloadFailed(
            f"{name}: {hub} gives it only to those who have accepted its terms: accept them at {hub}/{repository}, "
            "and set HF_TOKEN to a token of that account"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFound(
            f"model: {hub} has no repository {repository!r}, or it is private: check the name, or set HF_TOKEN to a "
            "token that may read it",
            param="model",
        )
    if isinstance(error, RevisionNotFoundError):
        revision = reference.revision or "main"
        return ModelNotFound(f"model: {repository} has no revision {revision!r} at {hub}", param="model")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return ModelNotFound(f"model: {name}: {hub} lists a file that it does not have", param="model")
    if isinstance(error, HfHubHTTPError):
        return DownloadFailed(f"{name}: {hub} answered {error.response.status_code}; {_advice(error)}")
    if isinstance(error, OSError) and (is_full(error) or error.filename is not None):
        return _storage_error(error, folder)
    return DownloadFailed(f"{name}: the transfer from {hub} failed: {type(error).__name__}; {_NETWORK}")


def _advice(error: HfHubHTTPError) -> str:
    if error.response.status_code in (401, 403):
        return "check HF_TOKEN"
    return "try again later, or name a mirror in HF_ENDPOINT"


def _storage_error(error: OSError, folder: Path) -> LeptonError:
    try:
        with storage_errors(folder):
            raise error
    except LeptonError as translated:
        return translated
