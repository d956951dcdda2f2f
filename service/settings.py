"""What the environment may say. Every setting is `JIEBAN_<NAME>`; `python3 -m service settings` prints them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.core.receivers import Allowed

ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="JIEBAN_", extra="ignore")

    data_dir: Path = Field(ROOT / ".jieban", description="private folder of the embedded servers, keys and logs")
    database_url: str = Field("", description="PostgreSQL 15 to 18; empty: the embedded one is started")
    redis_url: str = Field("", description="Redis 6.2 or newer; empty: the embedded Valkey is started")
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8000, ge=1, le=65535, description="port the API listens on")
    sandbox: bool = Field(False, description="1 gives /v1/sandbox/clock, a test clock that partners can move")
    workflows_dir: Path = Field(ROOT / "workflows", description="workflows, calendars, routing, departments, matters")
    zone: str = Field("Asia/Shanghai", description="zone in which answers show times")
    pool_size: int = Field(16, ge=2, le=200, description="database connections of one API process")
    secret_key: SecretStr = Field(SecretStr(""), description="32 bytes in base64 that encrypt contact data; "
                                  "empty: made once in the data folder")  # fmt: skip
    oidc_issuer: str = Field("", description="issuer of people's tokens; empty: the built-in one only")
    oidc_audience: str = Field("jieban", description="audience that tokens must name")
    oidc_jwks_url: str = Field("", description="where the issuer's keys are; empty: <issuer>/.well-known/jwks.json")
    oidc_plain_jwt: bool = Field(
        False, description="1 takes access tokens of type JWT too (an issuer without RFC 9068)"
    )
    oidc_roles_claim: str = Field("roles", description="claim that lists roles")
    oidc_departments_claim: str = Field("departments", description="claim that lists department codes")
    builtin_issuer: bool = Field(True, description="0 refuses tokens of the built-in issuer")
    webhook_url: str = Field("", description="receiver of events (Standard Webhooks); empty: events are only kept")
    webhook_secret: SecretStr = Field(SecretStr(""), description="whsec_… shared with the receiver")
    webhook_receivers: str = Field("", description="where clients may register receivers of events, parted by commas: "
                                   "https://host[:port] or https://network/bits[:port]; empty: nowhere")  # fmt: skip
    rate_limit: int = Field(1000, ge=0, le=1_000_000, description="requests a second of one client at one API process, "
                            "five times as many at once; 0: no limit")  # fmt: skip
    attachments_url: str = Field("", description="where attachments lie: file:///folder, s3://bucket/prefix; "
                                 "empty: a folder beside the data")  # fmt: skip
    attachments_endpoint: str = Field("", description="address of an S3-compatible store that is not Amazon's")
    attachments_region: str = Field("", description="its region, where it has one")
    attachments_access_key: str = Field("", description="who writes there")
    attachments_secret_key: SecretStr = Field(SecretStr(""), description="with what secret")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="how much is logged")

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("expected the name of a time zone, such as Asia/Shanghai") from None
        return value

    @field_validator("webhook_receivers")
    @classmethod
    def _readable_list(cls, value: str) -> str:
        Allowed.parse(value)
        return value

    @field_validator("secret_key")
    @classmethod
    def _whole_key(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        try:
            whole = not given or len(base64.b64decode(given, validate=True)) == 32
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("expected 32 bytes in base64 (openssl rand -base64 32)")
        return value
