"""Config: flags, passwords and hostile JSON."""

import base64
import contextlib
import itertools
import json
import time
from typing import Any, Dict, FrozenSet, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepy_legacy.crypt import config as config_module
from fusepy_legacy.crypt.config import (
    AESSIV_FLAG,
    DIRIV,
    EME_NAMES,
    FIDO2_FLAG,
    FORWARD,
    FORWARD_PLAINTEXT_NAMES,
    GCMIV128,
    HKDF_FLAG,
    LONG_NAME_MAX_FLAG,
    LONG_NAMES,
    PLAINTEXT_NAMES,
    RAW64,
    REVERSE,
    XCHACHA_FLAG,
    Config,
    ScryptParameters,
    create,
    master_key_from_text,
    master_key_to_text,
    parse,
)
from fusepy_legacy.crypt.content import AES_GCM, AES_SIV, XCHACHA20_POLY1305
from fusepy_legacy.crypt.errors import (
    CryptError,
    EmptyPassword,
    InvalidConfig,
    InvalidKey,
    PasswordTooLong,
    ScryptCost,
    UnsupportedConfig,
    WrongPassword,
)

PASSWORD = b"password"
CONFIG, MASTER_KEY = create(PASSWORD, scrypt_n=1024)
MEMBERS: Dict[str, Any] = json.loads(CONFIG.to_bytes().decode())


def changed(**members: Any) -> bytes:
    """The config of this module as a file, with members replaced; None leaves one out."""
    result = {**MEMBERS, **members}
    return json.dumps({name: value for name, value in result.items() if value is not None}).encode()


def scrypt(**parameters: Any) -> bytes:
    return changed(ScryptObject={**MEMBERS["ScryptObject"], **parameters})


def valid_flags() -> Iterator[FrozenSet[str]]:
    """Every combination that exists, built from what each choice needs."""
    contents = [
        {GCMIV128},
        {GCMIV128, HKDF_FLAG},
        {GCMIV128, AESSIV_FLAG},
        {GCMIV128, AESSIV_FLAG, HKDF_FLAG},
        {XCHACHA_FLAG, HKDF_FLAG},
    ]
    optional = [DIRIV, LONG_NAMES, RAW64, LONG_NAME_MAX_FLAG]
    names = [{PLAINTEXT_NAMES}]
    for count in range(len(optional) + 1):
        names += [{EME_NAMES, *some} for some in itertools.combinations(optional, count)]
    for content, name, more in itertools.product(contents, names, [set(), {FIDO2_FLAG}]):
        yield frozenset(content | name | more)


def test_the_file_looks_as_gocryptfs_writes_it() -> None:
    """JSON with tabs and a newline; a key of 64 bytes and a salt of 32 in standard base64."""
    data = CONFIG.to_bytes()
    assert data.startswith(b'{\n\t"Creator": "')
    assert data.endswith(b"\n}\n")
    assert MEMBERS["Version"] == 2
    assert len(base64.b64decode(MEMBERS["EncryptedKey"])) == 64
    parameters = dict(MEMBERS["ScryptObject"])
    assert len(base64.b64decode(parameters.pop("Salt"))) == 32
    assert parameters == {"N": 1024, "R": 8, "P": 1, "KeyLen": 32}
    assert set(MEMBERS["FeatureFlags"]) == FORWARD
    assert "LongNameMax" not in MEMBERS


def test_exactly_the_combinations_that_exist_are_accepted() -> None:
    """All 2048 subsets of the flags: 170 are a config, the others UnsupportedConfig."""
    valid = set(valid_flags())
    assert len(valid) == 170
    flags = sorted(set().union(*valid))
    for count in range(len(flags) + 1):
        for subset in map(frozenset, itertools.combinations(flags, count)):
            key = bytes(range(1, 65 if HKDF_FLAG in subset else 61))
            data = changed(
                FeatureFlags=sorted(subset),
                LongNameMax=100 if LONG_NAME_MAX_FLAG in subset else None,
                EncryptedKey=base64.b64encode(key).decode(),
            )
            if subset in valid:
                assert parse(data).flags == subset
                assert parse(parse(data).to_bytes()) == parse(data)
            else:
                with pytest.raises(UnsupportedConfig):
                    parse(data)


@pytest.mark.parametrize(
    ("flags", "algorithm"),
    [
        (FORWARD, AES_GCM),
        (REVERSE, AES_SIV),
        (FORWARD - {GCMIV128} | {XCHACHA_FLAG}, XCHACHA20_POLY1305),
        (FORWARD_PLAINTEXT_NAMES, AES_GCM),
        (FORWARD - {HKDF_FLAG, RAW64}, AES_GCM),
        (REVERSE - {HKDF_FLAG, RAW64, DIRIV}, AES_SIV),
    ],
)
def test_a_new_config_opens_with_its_password(flags: FrozenSet[str], algorithm: Any) -> None:
    """parse and unlock give back what create made; without HKDF the key has a nonce of 12 bytes."""
    config, master_key = create(PASSWORD, flags, scrypt_n=1024)
    again = parse(config.to_bytes())
    assert again == config
    assert again.unlock(PASSWORD) == master_key
    assert again.algorithm is again.layout.algorithm is algorithm
    assert len(config.encrypted_key) == (64 if HKDF_FLAG in flags else 60)
    assert again.plaintext_names == (PLAINTEXT_NAMES in flags)
    assert again.directory_ivs == (DIRIV in flags)
    assert again.name_cipher(master_key).raw64 == (RAW64 in flags)


@pytest.mark.parametrize("limit", range(62, 256))
def test_each_limit_for_names_is_kept(limit: int) -> None:
    """LongNameMax is written unless it is 255, together with its flag."""
    config = CONFIG._replace(
        long_name_max=limit,
        flags=FORWARD | ({LONG_NAME_MAX_FLAG} if limit < 255 else frozenset()),
    )
    assert (b"LongNameMax" in config.to_bytes()) == (limit < 255)
    assert parse(config.to_bytes()).long_name_max == limit
    assert config.name_cipher(MASTER_KEY).long_name_max == limit


def test_create_sets_the_flag_for_a_limit() -> None:
    """The flag follows from the value, in both directions."""
    config, _ = create(PASSWORD, long_name_max=100, scrypt_n=1024)
    assert config.flags == FORWARD | {LONG_NAME_MAX_FLAG}
    config, _ = create(PASSWORD, FORWARD | {LONG_NAME_MAX_FLAG}, scrypt_n=1024)
    assert config.flags == FORWARD


@pytest.mark.parametrize(
    ("flags", "limit"),
    [
        (FORWARD, 61),
        (FORWARD, 256),
        (FORWARD | {"NewFeature"}, 255),
        (FORWARD | {PLAINTEXT_NAMES}, 255),
        (FORWARD_PLAINTEXT_NAMES, 100),
        (REVERSE | {XCHACHA_FLAG}, 255),
        ([], 255),
    ],
)
def test_no_config_is_created_that_could_not_be_read(flags: Any, limit: int) -> None:
    """UnsupportedConfig."""
    with pytest.raises(UnsupportedConfig):
        create(PASSWORD, flags, limit, scrypt_n=1024)


def test_another_password_opens_the_same_tree() -> None:
    """The master key stays; salt and nonce are new; the old config keeps its password."""
    config = CONFIG.with_password(MASTER_KEY, b"new", scrypt_n=2048)
    assert config.unlock(b"new") == CONFIG.unlock(PASSWORD) == MASTER_KEY
    assert config.scrypt.n == 2048
    assert config.scrypt.salt != CONFIG.scrypt.salt
    assert config._replace(scrypt=CONFIG.scrypt, encrypted_key=CONFIG.encrypted_key) == CONFIG
    with pytest.raises(WrongPassword):
        config.unlock(PASSWORD)


def test_what_is_not_understood_survives_a_new_password() -> None:
    """FIDO2 and members of later versions are kept as they are."""
    fido2 = {"CredentialID": "AAAA", "HMACSalt": "BBBB", "AssertOptions": ["up"]}
    data = changed(FIDO2=fido2, Later=[1, None], FeatureFlags=[*MEMBERS["FeatureFlags"], "FIDO2"])
    config = parse(data).with_password(MASTER_KEY, b"new", scrypt_n=1024)
    assert json.loads(config.to_bytes().decode())["FIDO2"] == fido2
    assert json.loads(config.to_bytes().decode())["Later"] == [1, None]
    assert config.unlock(b"new") == MASTER_KEY


@pytest.mark.parametrize(
    ("password", "error"),
    [
        (b"", EmptyPassword),
        (b"x" * 2049, PasswordTooLong),
        (b"Password", WrongPassword),
        (PASSWORD + b"\n", WrongPassword),
        (b"x" * 2048, WrongPassword),
    ],
)
def test_a_password_that_does_not_open_the_config(password: bytes, error: Any) -> None:
    """One class for each reason."""
    with pytest.raises(CryptError) as caught:
        CONFIG.unlock(password)
    assert type(caught.value) is error


def test_a_damaged_key_looks_like_a_wrong_password() -> None:
    """Any bit of the encrypted key or the parameters: WrongPassword, never a wrong key."""
    for position in range(len(CONFIG.encrypted_key)):
        key = bytearray(CONFIG.encrypted_key)
        key[position] ^= 0x80
        with pytest.raises(WrongPassword):
            CONFIG._replace(encrypted_key=bytes(key)).unlock(PASSWORD)
    for changes in ({"salt": bytes(32)}, {"n": 2048}, {"r": 9}, {"p": 2}):
        with pytest.raises(WrongPassword):
            CONFIG._replace(scrypt=CONFIG.scrypt._replace(**changes)).unlock(PASSWORD)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 1 << 40},
        {"n": 1 << 1000},
        {"r": 1 << 40},
        {"p": 1 << 40},
        {"n": 1 << 20, "r": 16},
        {"n": 1 << 20, "p": 2},
        {"n": 0},
        {"n": 1},
        {"n": 512},
        {"n": -1024},
        {"n": 1025},
        {"r": 7},
        {"r": 0},
        {"r": -8},
        {"p": 0},
        {"p": -1},
        {"salt": b""},
        {"salt": bytes(31)},
        {"salt": bytes(1025)},
    ],
)
def test_scrypt_is_bounded_before_it_runs(changes: Dict[str, Any]) -> None:
    """ScryptCost at once, for what is too weak as for what asks for terabytes or for days."""
    config = CONFIG._replace(scrypt=CONFIG.scrypt._replace(**changes))
    begin = time.process_time()
    with pytest.raises(ScryptCost):
        config.unlock(PASSWORD)
    assert time.process_time() - begin < 0.1


def test_the_bound_for_scrypt_can_be_chosen() -> None:
    """By default 1 GiB, that is N = 2^20; whoever has a costlier config can allow it."""
    scrypt_parameters = ScryptParameters(bytes(32), 1 << 20, 8, 1)
    scrypt_parameters.check(1 << 30)
    with pytest.raises(ScryptCost):
        scrypt_parameters.check((1 << 30) - 1)
    assert CONFIG.unlock(PASSWORD, scrypt_memory=1 << 20) == MASTER_KEY
    with pytest.raises(ScryptCost):
        CONFIG.unlock(PASSWORD, scrypt_memory=(1 << 20) - 1)
    with pytest.raises(ScryptCost):
        CONFIG.with_password(MASTER_KEY, PASSWORD, scrypt_n=1 << 21)


def test_too_little_memory_for_scrypt_is_an_error_of_the_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine with less memory than allowed: ScryptCost, no MemoryError."""

    def no_memory(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(config_module, "Scrypt", no_memory)
    with pytest.raises(ScryptCost):
        CONFIG.unlock(PASSWORD)


NOT_CONFIGS: Dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"gocryptfs",
    "cut": CONFIG.to_bytes()[:-3],
    "two": CONFIG.to_bytes() * 2,
    "not UTF-8": CONFIG.to_bytes().replace(b"Creator", b"\xff"),
    "UTF-16": CONFIG.to_bytes().decode().encode("utf-16"),
    "a list": b"[]",
    "a number": b"2",
    "null": b"null",
    "too large": changed(Creator="x" * 70000),
    "nested": changed(FIDO2=None)[:-1] + b', "x": ' + b"[" * 30000 + b"]" * 30000 + b"}",
    "a long number": changed()[:-1] + b', "Version": ' + b"2" * 50000 + b"}",
    "no version": changed(Version=None),
    "a version as text": changed(Version="2"),
    "a version as a fraction": changed(Version=2.0),
    "true as version": changed(Version=True),
    "no flags": changed(FeatureFlags=None),
    "flags as text": changed(FeatureFlags="HKDF"),
    "a number as flag": changed(FeatureFlags=[*MEMBERS["FeatureFlags"], 1]),
    "a list as flag": changed(FeatureFlags=[*MEMBERS["FeatureFlags"], []]),
    "a number as creator": changed(Creator=1),
    "no key": changed(EncryptedKey=None),
    "a number as key": changed(EncryptedKey=1),
    "an empty key": changed(EncryptedKey=""),
    "a key of 60 bytes": changed(EncryptedKey=base64.b64encode(b"x" * 60).decode()),
    "a key of 65 bytes": changed(EncryptedKey=base64.b64encode(b"x" * 65).decode()),
    "a key with a zero nonce": changed(EncryptedKey=base64.b64encode(bytes(64)).decode()),
    "a key that is not base64": changed(EncryptedKey="*" * 88),
    "a key with a newline": changed(EncryptedKey=MEMBERS["EncryptedKey"] + "\n"),
    "a key with a stray star": changed(EncryptedKey="*" + MEMBERS["EncryptedKey"]),
    "a key beyond ASCII": changed(EncryptedKey="\u00e4" * 88),
    "a key with a surrogate": changed(EncryptedKey="\ud800" * 88),
    "no scrypt": changed(ScryptObject=None),
    "scrypt as a list": changed(ScryptObject=[]),
    "no salt": scrypt(Salt=None),
    "no N": scrypt(N=None),
    "N as text": scrypt(N="1024"),
    "N as a fraction": scrypt(N=1024.0),
    "N infinite": scrypt(N=float("inf")),
    "N not a number": scrypt(N=float("nan")),
    "R true": scrypt(R=True),
    "P null": scrypt(P=None),
    "no key length": scrypt(KeyLen=None),
    "a key length of 16": scrypt(KeyLen=16),
    "a key length of terabytes": scrypt(KeyLen=1 << 42),
    "LongNameMax as text": changed(LongNameMax="100"),
    "a member not a number": changed(Another=float("nan")),
    "a member infinite": changed(Another="x").replace(b'"x"', b"[1e999]"),
}


@pytest.mark.parametrize("name", NOT_CONFIGS)
def test_what_is_not_a_config_is_refused(name: str) -> None:
    """InvalidConfig for each of these, and nothing else."""
    with pytest.raises(CryptError) as caught:
        parse(NOT_CONFIGS[name])
    # A number of 50000 digits is JSON for the older Pythons, but no version.
    allowed = (InvalidConfig, UnsupportedConfig) if name == "a long number" else (InvalidConfig,)
    assert type(caught.value) in allowed


@pytest.mark.parametrize(
    "data",
    [
        changed(Version=1),
        changed(Version=3),
        changed(Version=-(1 << 70)),
        changed(FeatureFlags=[*MEMBERS["FeatureFlags"], "NewFeature"]),
        changed(FeatureFlags=[*MEMBERS["FeatureFlags"], "hkdf"]),
        changed(FeatureFlags=[*MEMBERS["FeatureFlags"], "\ud800"]),
        changed(FeatureFlags=[]),
        changed(LongNameMax=100),
        changed(FeatureFlags=[*MEMBERS["FeatureFlags"], "LongNameMax"]),
        changed(FeatureFlags=[*MEMBERS["FeatureFlags"], "LongNameMax"], LongNameMax=61),
        changed(FeatureFlags=[*MEMBERS["FeatureFlags"], "LongNameMax"], LongNameMax=1 << 70),
    ],
)
def test_what_a_later_version_might_write_is_not_guessed_at(data: bytes) -> None:
    """UnsupportedConfig for other versions, unknown flags and combinations."""
    with pytest.raises(UnsupportedConfig):
        parse(data)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["HKDF", "AAAA", "=", "Raw64"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def parse_and_use(data: bytes) -> None:
    """All that a caller does with a config before it has a password that fits."""
    with contextlib.suppress(CryptError):
        config = parse(data)
        assert parse(config.to_bytes()).flags == config.flags
        config.layout.encrypted_size(1)
        with contextlib.suppress(CryptError):
            config.name_cipher(MASTER_KEY)
            config.content_cipher(MASTER_KEY)
        config.unlock(PASSWORD, scrypt_memory=1 << 21)


@given(st.sampled_from(sorted({*MEMBERS, "LongNameMax", "FIDO2"})), json_values)
def test_any_value_of_a_member_is_read_or_a_crypt_error(name: str, value: Any) -> None:
    """No other exception, whatever stands in the place of a member."""
    parse_and_use(json.dumps({**MEMBERS, name: value}).encode())


@given(st.sampled_from(["Salt", "N", "R", "P", "KeyLen"]), json_values)
def test_any_value_of_a_scrypt_parameter_is_read_or_a_crypt_error(name: str, value: Any) -> None:
    """No other exception, and no more memory than was allowed."""
    parse_and_use(scrypt(**{name: value}))


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_a_crypt_error(data: bytes) -> None:
    """No other exception for any file."""
    parse_and_use(data)


@given(st.integers(0, len(CONFIG.to_bytes()) - 1), st.integers(0, 255))
def test_any_changed_byte_of_the_file_is_read_or_a_crypt_error(position: int, byte: int) -> None:
    """No other exception for a damaged file."""
    data = bytearray(CONFIG.to_bytes())
    data[position] = byte
    parse_and_use(bytes(data))


def test_a_master_key_has_a_text_form() -> None:
    """8 groups of 8 hexadecimal digits, as gocryptfs prints it; read with or without dashes."""
    key = bytes(range(32))
    text = "00010203-04050607-08090a0b-0c0d0e0f-10111213-14151617-18191a1b-1c1d1e1f"
    assert master_key_to_text(key) == text
    for form in (text, text.upper(), text.replace("-", ""), f" {text}\n"):
        assert master_key_from_text(form) == key


@pytest.mark.parametrize(
    "text",
    ["", "00", "00" * 31, "00" * 33, "0" * 63 + "g", "0" * 62 + "\u0660" * 2, "00 " * 32],
)
def test_other_text_is_no_master_key(text: str) -> None:
    """InvalidKey."""
    with pytest.raises(InvalidKey):
        master_key_from_text(text)


@given(st.text(max_size=80))
def test_any_text_is_a_master_key_or_invalid(text: str) -> None:
    """No other exception."""
    with contextlib.suppress(InvalidKey):
        assert len(master_key_from_text(text)) == 32


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_master_key_has_32_bytes(length: int) -> None:
    """InvalidKey wherever one is taken."""
    for function in (
        CONFIG.content_cipher,
        CONFIG.name_cipher,
        master_key_to_text,
        lambda key: CONFIG.with_password(key, PASSWORD),
    ):
        with pytest.raises(InvalidKey):
            function(bytes(length))


def test_a_config_is_immutable() -> None:
    """Threads may share one."""
    with pytest.raises(AttributeError):
        CONFIG.flags = frozenset()  # type: ignore[misc]
    assert isinstance(CONFIG, Config)
