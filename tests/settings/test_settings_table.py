"""Settings: read once, wrong ones refused by their environment name, secrets masked."""

from __future__ import annotations

from pathlib import Path

import pytest

from decision_service.core.errors import SettingInvalid
from decision_service.settings import Settings, environment_name, load_settings, settings_table


def test_every_setting_has_a_meaning_and_an_environment_name() -> None:
    """The table is the documentation: one line each."""
    rows = settings_table()
    assert [row.name for row in rows] == list(Settings.model_fields)
    for row in rows:
        assert row.meaning.endswith("."), row
        assert "\n" not in row.meaning
        assert row.environment == environment_name(row.name) == "DECISION_SERVICE_" + row.name.upper()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("DURABILITY", "maybe"),
        ("REDIS_URL", "mysql://host/0"),
        ("PARTITIONS", "0"),
        ("HOST", "0.0.0.0"),
        ("LOG_LEVEL", "loud"),
        ("RETENTION_DAYS", "-1"),
        ("REQUEST_AGE_MAX_MS", "1.5"),
        ("PROT", "8000"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value, or a name that does not exist, stops the start."""
    monkeypatch.setenv("DECISION_SERVICE_" + name, value)
    with pytest.raises(SettingInvalid) as caught:
        load_settings()
    assert caught.value.name == "DECISION_SERVICE_" + name


def test_a_misspelt_setting_is_told_its_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error cannot leave a default in force unseen."""
    monkeypatch.setenv("DECISION_SERVICE_RETENTION_DAY", "30")
    with pytest.raises(SettingInvalid, match="DECISION_SERVICE_RETENTION_DAYS"):
        load_settings()


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that was not given leaves the environment's value."""
    monkeypatch.setenv("DECISION_SERVICE_PORT", "1234")
    assert load_settings(port=None).port == 1_234
    assert load_settings(port=99).port == 99


def test_what_kubernetes_sets_for_a_service_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Service links of a Service named decision-service are not settings."""
    monkeypatch.setenv("DECISION_SERVICE_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("DECISION_SERVICE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("DECISION_SERVICE_PORT_80_TCP", "tcp://10.0.0.1:80")
    assert load_settings().port == 8_000


def test_a_secret_masks_itself() -> None:
    """The store's password shows in no text of the settings."""
    settings = load_settings(redis_url="redis://:hunter2@host/0")
    assert "hunter2" not in repr(settings) + str(settings) + str(settings.model_dump())
    assert settings.store_url == "redis://:hunter2@host/0"


def test_a_child_reads_equal_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a parent hands its workers is everything."""
    settings = load_settings(
        port=9, data_dir=tmp_path, redis_url="unix:///s", log_json=True, jwks="k", jwt_issuer="i", jwt_audience="a"
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@pytest.mark.parametrize(
    ("given", "missing"), [({"jwt_audience": "a"}, "JWT_ISSUER"), ({"jwt_issuer": "i"}, "JWT_AUDIENCE")]
)
def test_a_key_set_needs_issuer_and_audience(given: dict[str, str], missing: str) -> None:
    """A token for somebody else's service must not be let in."""
    with pytest.raises(SettingInvalid) as caught:
        load_settings(jwks="jwks.json", **given)
    assert caught.value.name == "DECISION_SERVICE_" + missing


def test_a_memory_store_is_of_one_worker() -> None:
    """Two workers without a shared store would each lend the limit."""
    with pytest.raises(SettingInvalid, match="DECISION_SERVICE_WORKERS"):
        load_settings(redis_url="memory://", workers=2)


def test_settings_cannot_be_changed() -> None:
    """Read once means once."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]
