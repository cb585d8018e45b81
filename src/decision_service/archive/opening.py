"""Opening: which archive the settings name.

`archive_url` says it. Without it the archive lies in the folder `archive` of the data directory: of a service with an
embedded store it is made there, of any other it counts if it is there. What fsspec is told beside the URL (credentials,
endpoints) is a secret of its own.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from decision_service.archive.files import Archive
from decision_service.core.errors import SettingInvalid
from decision_service.settings import Settings, environment_name

FOLDER: Final = "archive"  # in the data directory


def archive_url_of(settings: Settings) -> str | None:
    """Where the archive lies or is to be made, or None if the settings name none."""
    if settings.archive_url is not None:
        return settings.archive_url
    folder = settings.data_dir / FOLDER
    return str(folder) if settings.redis_url is None or folder.is_dir() else None


def archive_of(settings: Settings) -> Archive | None:
    """The archive that the settings name, or None. SettingInvalid, ArchiveUnavailable."""
    url = archive_url_of(settings)
    return None if url is None else Archive(url, storage_options_of(settings))


def storage_options_of(settings: Settings) -> dict[str, Any]:
    """What fsspec is told beside the URL. SettingInvalid."""
    if settings.archive_storage_options is None:
        return {}
    try:
        told = orjson.loads(settings.archive_storage_options.get_secret_value())
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise SettingInvalid(environment_name("archive_storage_options"), "must be a JSON object")
    return told
