"""Settings: one frozen table, read once at start from `DECISION_SERVICE_*` (command-line options win).

Every setting has its unit in its name, a default and a one-line meaning. A wrong value, or a name that does
not exist, fails at start with the environment name. Secrets mask themselves. `settings_table` is what the
documentation prints, `Settings.environment` is how a parent process hands its settings to its workers.

Kubernetes sets `DECISION_SERVICE_PORT=tcp://...` and `DECISION_SERVICE_SERVICE_*` in every pod beside a
Service named `decision-service`; those are not ours and are passed over.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from decision_service.core import limits, links
from decision_service.core.errors import SettingInvalid
from decision_service.core.source import nearest_name

ENV_PREFIX: Final = "DECISION_SERVICE_"
PORT_DEFAULT: Final = 8000
SERVICE_LINK: Final = re.compile(ENV_PREFIX + r"(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP))")
LOOPBACK_HOSTS: Final = ("127.0.0.1", "::1", "localhost")
STORE_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "redis+cluster", "unix", "memory")


class Settings(BaseSettings):
    """The table. Fields are in the order the documentation shows them."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )  # fmt: skip

    # --- where it listens -------------------------------------------------------------------------------
    host: str = Field("127.0.0.1", description="Address to listen on; other than loopback needs authentication.")
    port: int = Field(PORT_DEFAULT, ge=0, le=65_535, description="TCP port; 0 lets the system choose.")
    workers: int = Field(1, ge=1, le=256, description="Worker processes sharing the socket.")

    # --- what it serves ---------------------------------------------------------------------------------
    data_dir: Path = Field(Path("data"), description="Directory of the embedded store and the local journal.")
    redis_url: SecretStr | None = Field(
        None,
        description="Store: redis://, rediss://, redis+sentinel://, redis+cluster://, unix://; "
        "none starts an embedded Valkey in the data directory.",
    )
    static_answers: bool = Field(
        True,
        description="While the store is away answer from the rule set's `fallback`, and deliver that later; false "
        "answers 503 then, for several hosts to which a caller's retries go at random.",
    )  # fmt: skip
    durability: Literal["fast", "safe", "replicated"] = Field(
        "safe",
        description="Loss bound: fast (fsync each second), safe (fsync always), replicated (safe and WAIT).",
    )
    replicas: int = Field(
        1, ge=1, le=8, description="Replicas that must hold a write before it is told, under durability replicated."
    )
    replicas_timeout_ms: int = Field(
        200, ge=1, le=10_000,
        description="How long the store waits for its replicas; then the outcome counts as unknown.",
    )  # fmt: skip
    replicas_on_disk: bool = Field(
        False,
        description="A replica holds a write once it has fsynced it (WAITAOF: server 7.2, replicas with appendonly).",
    )
    rules: Path = Field(Path("rules"), description="Directory of rule sets and feature definitions.")
    models: Path = Field(Path("models"), description="Directory of scorecards.")
    time_zone: str = Field("Asia/Shanghai", description="Business time zone: local hours, days and months.")
    partitions: int = Field(
        limits.PARTITIONS, ge=1, le=limits.PARTITIONS_MAX,
        description="Partitions of customers; fixed at the first start of a store.",
    )  # fmt: skip
    retention_days: int = Field(
        limits.RETENTION_MS // limits.DAY_MS,
        ge=1,
        le=3_660,
        description="How long an event stays in the log.",
    )
    events_per_customer_max: int = Field(
        limits.EVENTS_PER_CUSTOMER_MAX, ge=limits.EVENTS_PER_CALL_MAX, le=65_536,
        description="Events kept per customer; older ones are trimmed and the windows flagged.",
    )  # fmt: skip
    links_per_entity_max: int = Field(
        links.LINKS_PER_ENTITY_MAX, ge=16, le=16_384,
        description="Events kept per device, payee and network; older ones are trimmed and the windows flagged.",
    )  # fmt: skip
    policy_approvals_change_max: float = Field(
        0.5, ge=0.0, le=1.0,
        description="A policy that would approve a share of the latest drawdowns this much larger or smaller, or all "
        "or none of them, is not taken unless it is forced; 1 takes any.",
    )  # fmt: skip
    watch_days: int = Field(
        7, ge=1, le=90,
        description="Days, today included, over which the gauges of `/metrics` tell the drift of scorecards.",
    )  # fmt: skip
    policy_scores_watched: int = Field(
        200, ge=0, le=10_000,
        description="Customers first scored by a new policy: if their scores are all alike, nearly all missing or far "
        "from the scorecard's training, the fleet goes back to the policy before; judged on the latest drawdowns "
        "beforehand too; 0 judges none.",
    )  # fmt: skip
    policy_signers: Path | None = Field(
        None, description="Who may sign policies: lines `name ed25519 <public key>` (`decision-service rules keygen`)."
    )
    policy_signatures_min: int = Field(
        0, ge=0, le=16,
        description="How many different signers must have signed a policy that is taken; 0 asks for no signatures, 2 "
        "is a two-person rule.",
    )  # fmt: skip
    shadow_rules: Path | None = Field(
        None,
        description="Directory of a policy in shadow: evaluated after each answer, in a process of its own, recorded "
        "and compared; what is published with `rules publish --shadow` goes before it.",
    )  # fmt: skip
    shadow_models: Path | None = Field(None, description="Directory of scorecards of a policy in shadow (`models`).")
    archive_url: str | None = Field(
        None, description="Where the archive lies: a folder or an fsspec URL; none is `archive` in the data directory."
    )
    archive_storage_options: SecretStr | None = Field(
        None, description="What fsspec is told beside archive_url, as a JSON object: credentials, endpoints."
    )
    archive_in_service: bool | None = Field(
        None,
        description="Whether `serve` runs a consumer of the archive beside its workers; none says so of an embedded "
        "store only: beside another `archive run` does it.",
    )  # fmt: skip
    archive_flush_s: int = Field(
        60, ge=1, le=86_400,
        description="How long an entry waits at most before it is archived; less makes more and smaller files.",
    )  # fmt: skip
    archive_segment_rows: int = Field(
        10_000, ge=100, le=100_000, description="Rows that are archived in one file at most, and at once."
    )
    archive_frames_kept_days: int = Field(
        7, ge=1, le=3_660, description="How long the store keeps a decision once it is archived."
    )
    archive_key: Path | None = Field(
        None,
        description="Private key that signs checkpoints of the archive (`decision-service rules keygen`); none leaves "
        "them unsigned.",
    )  # fmt: skip
    archive_signers: Path | None = Field(
        None, description="Whose checkpoints are believed: lines `name ed25519 <public key>`, as of policy_signers."
    )
    archive_checkpoint_minutes: int = Field(
        30, ge=1, le=1_440, description="How often `archive run` pins how far every place's chain has come."
    )
    archive_audit_days: int = Field(
        3_653, ge=1, le=36_525, description="How long the archive keeps decisions and what is about them (10 years)."
    )
    archive_personal_days: int = Field(
        730, ge=1, le=36_525,
        description="How long it keeps what is personal of them (2 years); never longer than archive_audit_days.",
    )  # fmt: skip
    archive_access_days: int = Field(
        366, ge=184, le=36_525, description="How long it keeps who read personal data: at least six months."
    )
    reservation_timeout_ms: int = Field(
        24 * limits.HOUR_MS, ge=limits.MINUTE_MS, le=limits.RETENTION_MS,
        description="How long an approved, unsettled drawdown reserves its amount.",
    )  # fmt: skip

    # --- requests ---------------------------------------------------------------------------------------
    deadline_ms_default: int = Field(
        limits.DEADLINE_MS_DEFAULT, ge=limits.DEADLINE_MS_MIN, le=limits.DEADLINE_MS_MAX,
        description="Budget of a decision whose request names none.",
    )  # fmt: skip
    links_budget_ms: int = Field(
        5, ge=1, le=limits.DEADLINE_MS_MAX,
        description="How long a decision waits for logs of devices, payees and networks, and never more than half of "
        "what is left; then it does without.",
    )  # fmt: skip
    request_age_max_ms: int = Field(
        limits.REQUEST_AGE_MAX_MS, ge=limits.MINUTE_MS, le=limits.EVENT_AGE_MAX_MS,
        description="A drawdown dated further back is refused; raise it to replay history.",
    )  # fmt: skip
    clock_ahead_max_ms: int = Field(
        limits.CLOCK_AHEAD_MAX_MS,
        ge=0,
        le=limits.DAY_MS,
        description="How far a caller's clock may run ahead of ours.",
    )
    body_bytes_max: int = Field(
        limits.BODY_BYTES_MAX, ge=limits.DECISION_BODY_BYTES_MAX, le=64 * limits.BODY_BYTES_MAX,
        description="Largest body of any call.",
    )  # fmt: skip
    decision_body_bytes_max: int = Field(
        limits.DECISION_BODY_BYTES_MAX,
        ge=1_024,
        le=limits.BODY_BYTES_MAX,
        description="Largest body of a decision call.",
    )
    header_bytes_max: int = Field(16_384, ge=1_024, le=65_536, description="Largest request line and headers together.")
    headers_max: int = Field(100, ge=16, le=1_000, description="Most header fields of a request.")
    header_timeout_ms: int = Field(
        5_000, ge=50, le=60_000, description="A connection whose headers are not complete by then is closed."
    )
    body_timeout_ms: int = Field(
        10_000, ge=50, le=600_000, description="A request whose body is not complete by then is answered 408."
    )
    keep_alive_ms: int = Field(75_000, ge=1_000, le=3_600_000, description="An idle connection is closed after this.")
    drain_timeout_ms: int = Field(
        10_000,
        ge=100,
        le=600_000,
        description="How long requests in flight may take to finish after SIGTERM.",
    )
    requests_in_flight_max: int = Field(
        1_000,
        ge=1,
        le=100_000,
        description="Requests one worker works on at once, whatever their budget; further ones are answered 503.",
    )
    write_timeout_ms: int = Field(
        10_000,
        ge=50,
        le=600_000,
        description="A connection whose caller does not take its answers is closed after this.",
    )
    connections_max: int = Field(
        10_000, ge=8, le=1_000_000,
        description="Connections of one worker, and never more than its file descriptors allow; further ones are "
        "answered 503 and closed.",
    )  # fmt: skip
    connections_per_address_max: int = Field(
        5_000, ge=1, le=1_000_000, description="Connections of one worker to one address."
    )

    # --- access -----------------------------------------------------------------------------------------
    keys_file: Path | None = Field(None, description="API keys, hashed (`decision-service keys new` adds one).")
    jwks: str | None = Field(None, description="Public keys of accepted JWTs: a file or an https URL.")
    jwt_issuer: str | None = Field(None, description="Issuer that a JWT must name; needed with jwks.")
    jwt_audience: str | None = Field(None, description="Audience that a JWT must name; needed with jwks.")
    rate_limit_per_s: int = Field(
        1_000, ge=0, le=1_000_000, description="Requests per second, principal and worker; 0 is no limit."
    )
    rate_limit_burst: int = Field(
        2_000, ge=1, le=10_000_000, description="Requests a rested principal may send at once."
    )
    previews_per_hour: int = Field(
        60, ge=0, le=1_000_000,
        description="Previews of one customer an hour and worker, where callers say who they are, so that nobody finds "
        "thresholds by bisection; 0 is no limit.",
    )  # fmt: skip

    # --- logging ----------------------------------------------------------------------------------------
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line logged.")
    log_json: bool = Field(False, description="Log lines as JSON objects.")
    runtime_dir: Path | None = Field(
        None, description="Directory of the workers' shared counters; none makes a temporary one."
    )

    @field_validator("port", mode="before")
    @classmethod
    def _port_is_not_a_service_link(cls, value: object) -> object:
        return PORT_DEFAULT if isinstance(value, str) and value.startswith("tcp://") else value

    @field_validator("time_zone")
    @classmethod
    def _time_zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise PydanticCustomError("time_zone", "unknown time zone, expected one such as Asia/Shanghai") from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _scheme_is_known(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().partition("://")[0] not in STORE_SCHEMES:
            raise PydanticCustomError("redis_url", "unknown scheme, expected one of " + ", ".join(STORE_SCHEMES))
        try:
            urlsplit("" if value is None else value.get_secret_value())
        except ValueError:  # its message would quote the password
            raise PydanticCustomError("redis_url", "is no URL") from None
        return value

    @model_validator(mode="after")
    def _settings_agree(self) -> Settings:
        if self.jwks and not (self.jwt_issuer and self.jwt_audience):
            missing = "jwt_issuer" if not self.jwt_issuer else "jwt_audience"
            raise _about(missing, "is needed when jwks is set")
        if self.host not in LOOPBACK_HOSTS and not self.authenticated:
            raise _about("host", f"{self.host} is not loopback: set keys_file or jwks first")
        if self.archive_personal_days > self.archive_audit_days:
            raise _about("archive_personal_days", "must not exceed archive_audit_days")
        if self.redis_url is not None and self.workers > 1 and self.store_url == "memory://":
            raise _about("workers", "a memory store cannot be shared by several workers")
        if self.shadow_rules is not None and self.store_url == "memory://":
            raise _about("shadow_rules", "a memory store cannot be shared with the process of a shadow")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options first, then the environment; nothing else."""
        return init_settings, env_settings

    @property
    def authenticated(self) -> bool:
        """Whether callers must say who they are."""
        return self.keys_file is not None or self.jwks is not None

    @property
    def store_url(self) -> str | None:
        """The store's URL with its password, or None for the embedded store."""
        return None if self.redis_url is None else self.redis_url.get_secret_value()

    def environment(self) -> dict[str, str]:
        """The environment that makes a child process read equal settings. Holds secrets: never log it."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {environment_name(n): _as_text(v) for n, v in values.items() if v is not None}


def _as_text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _about(name: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{message}", {"message": message, "setting": name})


def environment_name(field: str) -> str:
    """`data_dir` -> `DECISION_SERVICE_DATA_DIR`."""
    return ENV_PREFIX + field.upper()


def load_settings(**options: Any) -> Settings:
    """The settings from the environment, with `options` on top (None: not given). Raises SettingInvalid."""
    known = {environment_name(name) for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX) and name not in known and not SERVICE_LINK.match(name):
            nearest = nearest_name(name, known)
            raise SettingInvalid(name, "no such setting" + (f", did you mean {nearest}?" if nearest else ""))
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0]) if first["loc"] else first.get("ctx", {}).get("setting", "")
        raise SettingInvalid(environment_name(field), first["msg"]) from None


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of the documentation."""

    name: str
    environment: str
    default: str
    meaning: str


def settings_table() -> tuple[SettingRow, ...]:
    """Every setting in order, for the generated documentation."""
    return tuple(
        SettingRow(name, environment_name(name), "" if f.default is None else str(f.default), f.description or "")
        for name, f in Settings.model_fields.items()
    )
