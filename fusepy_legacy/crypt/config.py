"""gocryptfs.conf: which features a tree uses, and its master key, encrypted with a password.

The password becomes a key through scrypt, which costs time and memory on purpose. How much is said
in the file, which may come from an enemy: so it is bounded before any of it is spent.
"""

import base64
import hashlib
import json
import math
import os
import re
from typing import Any, Dict, FrozenSet, Iterable, NamedTuple, Tuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fusepy_legacy.crypt.content import (
    AES_GCM,
    AES_SIV,
    XCHACHA20_POLY1305,
    Algorithm,
    ContentCipher,
    Layout,
)
from fusepy_legacy.crypt.errors import (
    EmptyPassword,
    InvalidConfig,
    InvalidKey,
    PasswordTooLong,
    ScryptCost,
    UnsupportedConfig,
    WrongPassword,
)
from fusepy_legacy.crypt.names import LONG_NAME_MAX_LOWEST, NAME_MAX, NameCipher

CONFIG_FILE = b"gocryptfs.conf"
REVERSE_CONFIG_FILE = b".gocryptfs.reverse.conf"  # in the plain directory; shown as CONFIG_FILE
OLD_CONFIG_SUFFIX = b".bak"  # of what a new password by a master key leaves
CONFIG_SIZE_MAX = 1 << 16

KEY_LENGTH = 32
PASSWORD_MAX = 2048
SCRYPT_N = 1 << 16
SCRYPT_MEMORY = 1 << 30  # bytes; gocryptfs -init -scryptn 20 needs as much

# The feature flags by their names in the file, in the order in which they are written.
HKDF_FLAG, XCHACHA_FLAG, GCMIV128 = "HKDF", "XChaCha20Poly1305", "GCMIV128"
PLAINTEXT_NAMES, DIRIV, LONG_NAME_MAX_FLAG = "PlaintextNames", "DirIV", "LongNameMax"
EME_NAMES, LONG_NAMES, RAW64 = "EMENames", "LongNames", "Raw64"
AESSIV_FLAG, FIDO2_FLAG = "AESSIV", "FIDO2"
_NAME_FLAGS = [DIRIV, LONG_NAME_MAX_FLAG, EME_NAMES, LONG_NAMES, RAW64]
_FLAGS = [HKDF_FLAG, XCHACHA_FLAG, GCMIV128, PLAINTEXT_NAMES, *_NAME_FLAGS, AESSIV_FLAG, FIDO2_FLAG]
FORWARD = frozenset([HKDF_FLAG, GCMIV128, DIRIV, EME_NAMES, LONG_NAMES, RAW64])
REVERSE = FORWARD | {AESSIV_FLAG}
FORWARD_PLAINTEXT_NAMES = frozenset([HKDF_FLAG, GCMIV128, PLAINTEXT_NAMES])

_VERSION = 2
_SALT_LENGTH = 32
_SALT_MAX = 1024
_BRACKETS_MAX = 100  # the JSON module recurses
_WRAP_INFO = AES_GCM.info
_WRAP_AAD = bytes(8)  # the block number 0
_NAMES_INFO = b"EME filename encryption"
_MEMBERS = ["Creator", "EncryptedKey", "ScryptObject", "Version", "FeatureFlags", "LongNameMax"]


class ScryptParameters(NamedTuple):
    """How a password becomes a key (RFC 7914): salt of 32 to 1024 bytes, N, r and p."""

    salt: bytes
    n: int
    r: int
    p: int

    def check(self, limit: int) -> None:
        """Raise `ScryptCost` if weaker than gocryptfs allows, or 128 N r p exceeds `limit` bytes.

        With p = 1 that product is the memory scrypt takes; the time grows with it in any case.
        """
        if not _SALT_LENGTH <= len(self.salt) <= _SALT_MAX:
            raise ScryptCost(f"the scrypt salt has {len(self.salt)} bytes, not 32 to 1024")
        if self.n < 1024 or self.r < 8 or self.p < 1 or self.n & (self.n - 1):
            raise ScryptCost("the scrypt parameters are below the minimum, or N is no power of 2")
        if 128 * self.n * self.r * self.p > limit:
            raise ScryptCost(f"the scrypt parameters ask for more than {limit} bytes of memory")

    def derive(self, password: bytes, limit: int) -> bytes:
        """Return the 32-byte key; raises `EmptyPassword`, `PasswordTooLong`, `ScryptCost`."""
        if not password:
            raise EmptyPassword("the password is empty")
        if len(password) > PASSWORD_MAX:
            raise PasswordTooLong(f"the password has more than {PASSWORD_MAX} bytes")
        self.check(limit)
        try:
            return Scrypt(self.salt, KEY_LENGTH, self.n, self.r, self.p).derive(password)
        except MemoryError:
            raise ScryptCost("there is not enough memory for these scrypt parameters") from None


class Config(NamedTuple):
    """A config: immutable; `parse` or `create` makes one, `to_bytes` is the file's content.

    `creator` says which program made the tree. `encrypted_key` is 64 bytes, 60 without HKDF.
    `flags` are feature flags. `long_name_max` is 62 to 255. `other` holds the JSON members that
    nothing here reads, FIDO2 among them; they are kept when the config is written again.
    """

    creator: str
    encrypted_key: bytes
    scrypt: ScryptParameters
    flags: FrozenSet[str]
    long_name_max: int
    other: Dict[str, Any]

    @property
    def algorithm(self) -> Algorithm:
        """The cipher for content."""
        if XCHACHA_FLAG in self.flags:
            return XCHACHA20_POLY1305
        return AES_SIV if AESSIV_FLAG in self.flags else AES_GCM

    @property
    def layout(self) -> Layout:
        """Sizes and offsets of encrypted files; needs no key and no cipher."""
        return Layout(self.algorithm)

    @property
    def plaintext_names(self) -> bool:
        """Whether names and symlink targets are not encrypted."""
        return PLAINTEXT_NAMES in self.flags

    @property
    def directory_ivs(self) -> bool:
        """Whether each directory has an IV in a file; without, encrypted names use a zero IV."""
        return DIRIV in self.flags

    def to_bytes(self) -> bytes:
        """Return the file's content: JSON, tabs, as gocryptfs writes it."""
        members: Dict[str, Any] = {
            "Creator": self.creator,
            "EncryptedKey": base64.b64encode(self.encrypted_key).decode(),
            "ScryptObject": {
                "Salt": base64.b64encode(self.scrypt.salt).decode(),
                "N": self.scrypt.n,
                "R": self.scrypt.r,
                "P": self.scrypt.p,
                "KeyLen": KEY_LENGTH,
            },
            "Version": _VERSION,
            "FeatureFlags": [flag for flag in _FLAGS if flag in self.flags],
        }
        if LONG_NAME_MAX_FLAG in self.flags:
            members["LongNameMax"] = self.long_name_max
        members.update(self.other)
        return json.dumps(members, indent="\t").encode() + b"\n"

    def unlock(self, password: bytes, scrypt_memory: int = SCRYPT_MEMORY) -> bytes:
        """Return the 32-byte master key.

        `password` is 1 to 2048 bytes without the newline; for a tree with FIDO2 it is the token's
        hmac-secret. `scrypt_memory` is the most that scrypt may take, in bytes. Raises
        `WrongPassword`, `EmptyPassword`, `PasswordTooLong`, `ScryptCost`.
        """
        cipher = self._wrapping_cipher(password, scrypt_memory)
        nonce_length = _wrapping_nonce_length(self.flags)
        nonce, wrapped = self.encrypted_key[:nonce_length], self.encrypted_key[nonce_length:]
        try:
            return cipher.decrypt(nonce, wrapped, _WRAP_AAD)
        except InvalidTag:
            raise WrongPassword("the password is wrong") from None

    def with_password(
        self,
        master_key: bytes,
        password: bytes,
        scrypt_n: int = SCRYPT_N,
        scrypt_memory: int = SCRYPT_MEMORY,
    ) -> "Config":
        """Return a config that another password opens, all else being equal.

        The master key stays the same, so the old config and password go on to open the tree.
        `scrypt_n` is a power of 2, 1024 or more. Raises `InvalidKey` if the master key is not 32
        bytes, and `EmptyPassword`, `PasswordTooLong`, `ScryptCost`.
        """
        _check_master_key(master_key)
        scrypt = ScryptParameters(os.urandom(_SALT_LENGTH), scrypt_n, 8, 1)
        config = self._replace(scrypt=scrypt)
        cipher = config._wrapping_cipher(password, scrypt_memory)
        nonce = os.urandom(_wrapping_nonce_length(self.flags))
        wrapped = cipher.encrypt(nonce, master_key, _WRAP_AAD)
        return config._replace(encrypted_key=nonce + wrapped)

    def content_cipher(self, master_key: bytes) -> ContentCipher:
        """Return the cipher for content; raises `InvalidKey` and `CipherUnavailable`."""
        _check_master_key(master_key)
        algorithm = self.algorithm
        if HKDF_FLAG in self.flags:
            key = _hkdf(master_key, algorithm.info, algorithm.key_length)
        elif algorithm is AES_SIV:
            key = hashlib.sha512(master_key).digest()
        else:
            key = master_key
        return ContentCipher(algorithm, key)

    def name_cipher(self, master_key: bytes) -> NameCipher:
        """Return the cipher for names; with plaintext names too, whose attributes are encrypted.

        Raises `InvalidKey`.
        """
        _check_master_key(master_key)
        key = master_key
        if HKDF_FLAG in self.flags:
            key = _hkdf(master_key, _NAMES_INFO, KEY_LENGTH)
        return NameCipher(key, RAW64 in self.flags, self.long_name_max)

    def _wrapping_cipher(self, password: bytes, scrypt_memory: int) -> AESGCM:
        key = self.scrypt.derive(password, scrypt_memory)
        return AESGCM(_hkdf(key, _WRAP_INFO, KEY_LENGTH) if HKDF_FLAG in self.flags else key)


def create(
    password: bytes,
    flags: Iterable[str] = FORWARD,
    long_name_max: int = NAME_MAX,
    scrypt_n: int = SCRYPT_N,
    creator: str = "fusepy-legacy",
) -> Tuple[Config, bytes]:
    """Return a config with a new random master key, and that key (32 bytes).

    `flags`: FORWARD, REVERSE or FORWARD_PLAINTEXT_NAMES, with others added or taken away:
    AESSIV_FLAG for AES-SIV, XCHACHA_FLAG instead of GCMIV128, without DIRIV for deterministic
    names. The flag LongNameMax follows from `long_name_max`. Raises `UnsupportedConfig` for a
    combination that does not exist, and what `Config.with_password` raises.
    """
    names = frozenset(flags) - {LONG_NAME_MAX_FLAG}
    if long_name_max != NAME_MAX:
        names |= {LONG_NAME_MAX_FLAG}
    _check_flags(names, long_name_max)
    master_key = os.urandom(KEY_LENGTH)
    blank = Config(creator, b"", ScryptParameters(b"", 0, 0, 0), names, long_name_max, {})
    return blank.with_password(master_key, password, scrypt_n), master_key


def parse(data: bytes) -> Config:
    """Return the config in a file's content, at most 65536 bytes.

    Raises `InvalidConfig` for what is not a config, `UnsupportedConfig` for one this does not know.
    What scrypt would cost is not looked at before `Config.unlock`.
    """
    if len(data) > CONFIG_SIZE_MAX:
        raise InvalidConfig(f"the config has more than {CONFIG_SIZE_MAX} bytes")
    if data.count(b"[") + data.count(b"{") > _BRACKETS_MAX:
        raise InvalidConfig("the config is nested too deeply")
    try:
        members = json.loads(data.decode(), parse_float=_finite, parse_constant=_finite)
    except ValueError:
        raise InvalidConfig("the config is not JSON") from None
    if type(members) is not dict:
        raise InvalidConfig("the config is not a JSON object")
    version = _member(members, "Version", int)
    if version != _VERSION:
        raise UnsupportedConfig("the config is of another version than 2")
    flags = _member(members, "FeatureFlags", list)
    if not all(type(flag) is str for flag in flags):
        raise InvalidConfig("the config's FeatureFlags are not all text")
    has_long_name_max = members.get("LongNameMax", 0) != 0  # gocryptfs takes 0 as absent
    long_name_max = _member(members, "LongNameMax", int) if has_long_name_max else NAME_MAX
    if has_long_name_max != (LONG_NAME_MAX_FLAG in flags):
        raise UnsupportedConfig("LongNameMax needs both the flag and the value")
    _check_flags(frozenset(flags), long_name_max)
    encrypted_key = _binary(members, "EncryptedKey")
    nonce_length = _wrapping_nonce_length(frozenset(flags))
    if len(encrypted_key) != nonce_length + KEY_LENGTH + 16 or not any(
        encrypted_key[:nonce_length]
    ):
        raise InvalidConfig("the config's EncryptedKey has the wrong length, or no nonce")
    scrypt = _member(members, "ScryptObject", dict)
    if _member(scrypt, "KeyLen", int) != KEY_LENGTH:
        raise InvalidConfig("the config's KeyLen is not 32")
    return Config(
        _member(members, "Creator", str) if "Creator" in members else "",
        encrypted_key,
        ScryptParameters(
            _binary(scrypt, "Salt"),
            _member(scrypt, "N", int),
            _member(scrypt, "R", int),
            _member(scrypt, "P", int),
        ),
        frozenset(flags),
        long_name_max,
        {name: value for name, value in members.items() if name not in _MEMBERS},
    )


def master_key_to_text(master_key: bytes) -> str:
    """Return the 32 bytes as 64 hexadecimal digits in 8 groups; `InvalidKey` for another length."""
    return "-".join(re.findall(".{8}", _check_master_key(master_key).hex()))


def master_key_from_text(text: str) -> bytes:
    """Return the 32 bytes from 64 hexadecimal digits, dashes and surrounding space ignored.

    Raises `InvalidKey` for anything else.
    """
    digits = text.strip().replace("-", "")
    if not re.match("[0-9a-fA-F]{64}$", digits, re.ASCII):
        raise InvalidKey("a master key is 64 hexadecimal digits")
    return bytes.fromhex(digits)


def _check_flags(flags: FrozenSet[str], long_name_max: int) -> None:
    """Raise `UnsupportedConfig` for what configfile/validate.go refuses, and older formats."""
    unknown = flags - frozenset(_FLAGS)
    if unknown:
        raise UnsupportedConfig(f"unknown feature flag {min(unknown)!a}")
    if not LONG_NAME_MAX_LOWEST <= long_name_max <= NAME_MAX:
        raise UnsupportedConfig("LongNameMax is not 62 to 255")
    if XCHACHA_FLAG in flags and (flags & {AESSIV_FLAG, GCMIV128} or HKDF_FLAG not in flags):
        raise UnsupportedConfig("XChaCha20Poly1305 needs HKDF and excludes AESSIV and GCMIV128")
    if XCHACHA_FLAG not in flags and GCMIV128 not in flags:
        raise UnsupportedConfig("without GCMIV128 this is a format older than gocryptfs 1.0")
    about_names = flags.intersection(_NAME_FLAGS)
    if PLAINTEXT_NAMES in flags and about_names:
        raise UnsupportedConfig(f"PlaintextNames excludes {', '.join(sorted(about_names))}")
    if PLAINTEXT_NAMES not in flags and EME_NAMES not in flags:
        raise UnsupportedConfig("without EMENames this is a format older than gocryptfs 1.0")


def _check_master_key(master_key: bytes) -> bytes:
    if len(master_key) != KEY_LENGTH:
        raise InvalidKey(f"the master key has {len(master_key)} bytes, not 32")
    return master_key


def _wrapping_nonce_length(flags: FrozenSet[str]) -> int:
    """A config of gocryptfs 1.2 or older, without HKDF, has a nonce of 12 bytes."""
    return 16 if HKDF_FLAG in flags else 12


def _hkdf(key: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(key)


def _finite(text: str) -> float:
    """Refuse what could not be written again: JSON has no infinity (RFC 8259, section 6)."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _member(members: Dict[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if type(value) is not kind:  # not isinstance: true and false are no numbers here
        raise InvalidConfig(f"the config's {name} is missing or is not of type {kind.__name__}")
    return value


def _binary(members: Dict[str, Any], name: str) -> bytes:
    text: str = _member(members, name, str)
    try:
        data = base64.b64decode(text)
    except ValueError:
        data = b""
    if base64.b64encode(data).decode() != text:  # strictness differs between Python versions
        raise InvalidConfig(f"the config's {name} is not base64")
    return data
