"""What `archive verify`, `archive checkpoint`, `archive erase` and `archive purge` have in common: which archive, whose
key, which store."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from decision_service.archive.files import Archive
from decision_service.archive.opening import storage_options_of
from decision_service.core.errors import SettingInvalid
from decision_service.policies.signers import SigningKey, read_key
from decision_service.settings import Settings, environment_name, load_settings


def add_archive_options(parser: argparse.ArgumentParser) -> None:
    """`--archive`, `--data-dir` and `--json`."""
    parser.add_argument("--archive", metavar="URL", help=f"folder, or fsspec URL ({environment_name('archive_url')})")
    parser.add_argument(
        "--data-dir", type=Path, help="directory of the service, which holds the archive if none is named"
    )
    parser.add_argument("--json", action="store_true", help="what was found or done as JSON")


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """`--redis-url`."""
    parser.add_argument("--redis-url", help="store; none is the embedded one, also of a running service")


def add_key_option(parser: argparse.ArgumentParser) -> None:
    """`--key`."""
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help=f"private key to sign with ({environment_name('archive_key')})"
    )


def archive_settings(args: argparse.Namespace) -> Settings:
    """The settings with the options on top. SettingInvalid."""
    return load_settings(
        archive_url=args.archive, data_dir=args.data_dir, redis_url=getattr(args, "redis_url", None)
    )  # fmt: skip


def opened(settings: Settings) -> Archive:
    """The archive. SettingInvalid, ArchiveUnavailable."""
    return Archive(url_of(settings), storage_options_of(settings))


def url_of(settings: Settings) -> str:
    """Where the archive lies. SettingInvalid if nothing is there."""
    url = settings.archive_url or str(settings.data_dir / "archive")
    if "://" not in url and not Path(url).is_dir():
        raise SettingInvalid(environment_name("archive_url"), f"there is no archive in {url}: see --archive")
    return url


def who_signs(path: Path | None, settings: Settings) -> tuple[SigningKey | None, str]:
    """The key to sign checkpoints with, if there is one, and who makes them. SettingInvalid."""
    path = path or settings.archive_key
    by = f"{socket.gethostname()}:{os.getpid()}"
    if path is None:
        return None, by
    try:
        return read_key(path), by
    except (OSError, ValueError) as error:
        raise SettingInvalid(environment_name("archive_key"), str(error)) from None
