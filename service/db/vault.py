"""Encryption at rest of contact data and stored answers, and masking for those who may not see it.

Envelope: one byte of suite, 12 bytes of nonce, then AES-256-GCM ciphertext; the row's id is authenticated with it, so a
ciphertext moved to another row does not open.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic_core import from_json, to_json

_AES_256_GCM = b"\x01"


class Vault:
    """`key`: 32 bytes, from JIEBAN_SECRET_KEY or the data folder."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("JIEBAN_SECRET_KEY: expected 32 bytes in base64 (openssl rand -base64 32)")
        self._aead = AESGCM(key)

    @classmethod
    def from_text(cls, text: str) -> Vault:
        return cls(base64.b64decode(text, validate=True))

    def seal(self, value: Any, context: str) -> bytes:
        nonce = os.urandom(12)
        return _AES_256_GCM + nonce + self._aead.encrypt(nonce, to_json(value), context.encode())

    def seal_bytes(self, value: bytes, context: str) -> bytes:
        nonce = os.urandom(12)
        return _AES_256_GCM + nonce + self._aead.encrypt(nonce, value, context.encode())

    def open(self, envelope: bytes, context: str) -> Any:
        return from_json(self.open_bytes(envelope, context))

    def open_bytes(self, envelope: bytes, context: str) -> bytes:
        """Raises ValueError when the key is another one, or the row was tampered with."""
        if envelope[:1] != _AES_256_GCM:
            raise ValueError("unknown cipher suite")
        try:
            return self._aead.decrypt(envelope[1:13], envelope[13:], context.encode())
        except InvalidTag:
            raise ValueError("the envelope does not open: another key, or a changed row") from None


def mask_phone(phone: str) -> str:
    """138****5678: at most seven digits stay."""
    if len(phone) <= 4:
        return "*" * len(phone)
    keep = 3 if len(phone) >= 8 else 1
    return (
        phone[:keep]
        + "*" * (len(phone) - keep - min(4, len(phone) - keep - 1))
        + phone[-min(4, len(phone) - keep - 1) :]
    )


def mask_name(name: str) -> str:
    """张*: the first character stays."""
    return name[:1] + "*" * max(1, min(len(name) - 1, 2)) if name else ""


def mask_contact(contact: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": mask_name(contact["name"]) if contact.get("name") else None,
        "phone": mask_phone(contact["phone"]) if contact.get("phone") else None,
        "role": contact.get("role"),
    }


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
