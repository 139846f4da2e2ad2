"""Names: EME's published vectors, strict base64, long names at every limit, and hostile input."""

import contextlib
import hashlib
import itertools
import string
import threading
from typing import List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepy_legacy.crypt.eme import EME
from fusepy_legacy.crypt.errors import (
    CryptError,
    InvalidDirectoryIV,
    InvalidEncoding,
    InvalidKey,
    InvalidName,
    OutOfRange,
    UnencryptableName,
)
from fusepy_legacy.crypt.names import (
    DETERMINISTIC_IV,
    PLAIN_ATTRIBUTES,
    NameCipher,
    check_directory_iv,
    is_companion,
    is_long_name,
    is_valid_name,
    new_directory_iv,
)

KEY = bytes(range(32))
IV = bytes(range(100, 116))
NAMES = NameCipher(KEY)

valid_names = st.binary(min_size=1, max_size=255).filter(is_valid_name)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_eme_encrypts_the_published_512_byte_vector() -> None:
    """IEEE P1619, EME-32-AES of June 2005: key, tweak and input all zero."""
    output = EME(bytes(32)).encrypt(bytes(16), bytes(512))
    assert output[:16].hex() == "9f2e6c3daecae79e8839b0588ff378cd"
    assert sha256(output) == "7db861e039925bcce41a7dd1d8c3af62a4c114a0d906904929f6f2aadf11898f"


def test_eme_decrypts_the_published_512_byte_vector() -> None:
    """IEEE P1619, EME-32-AES of June 2005: key, tweak and input all zero."""
    output = EME(bytes(32)).decrypt(bytes(16), bytes(512))
    assert output[:16].hex() == "080905dee8ebcc89f68bd1af635db3f5"
    assert sha256(output) == "2cf26c1331659aa00d5b8ea6b1d1111ee9d07eed733d858c6edbb512d1a5d4be"


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (16, "f1b9ce8ca15a4ba9fb476905434b9fd3"),
        (2048, "44ea4ab31f9e4c83420f1bfe7782ded2e2421c92ac416a830cf46f3ea4cb5ff1"),
    ],
)
def test_eme_agrees_with_rfjakob_eme_at_its_smallest_and_largest_size(
    size: int, digest: str
) -> None:
    """rfjakob/eme, eme_test.go: key, tweak and input all zero."""
    output = EME(bytes(32)).encrypt(bytes(16), bytes(size))
    assert digest in (output.hex(), sha256(output))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16), st.data())
def test_eme_decrypts_what_it_encrypts(key: bytes, tweak: bytes, data: st.DataObject) -> None:
    """decrypt undoes encrypt for any key, tweak and number of blocks, and keeps the length."""
    count = data.draw(st.integers(1, 128))
    plain = data.draw(st.binary(min_size=16 * count, max_size=16 * count))
    eme = EME(key)
    encrypted = eme.encrypt(tweak, plain)
    assert len(encrypted) == len(plain)
    assert eme.decrypt(tweak, encrypted) == plain


@pytest.mark.parametrize("size", [0, 1, 15, 17, 2049, 2064])
def test_eme_takes_whole_blocks_up_to_128(size: int) -> None:
    """Any other length is OutOfRange, not a wrong answer."""
    with pytest.raises(OutOfRange):
        EME(KEY).encrypt(bytes(16), bytes(size))
    with pytest.raises(OutOfRange):
        EME(KEY).encrypt(bytes(size), bytes(16))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16), st.data())
def test_eme_encrypts_many_as_it_does_one(key: bytes, tweak: bytes, data: st.DataObject) -> None:
    """Messages in a row come out as each does alone, at any number of blocks; none makes none."""
    count = data.draw(st.one_of(st.integers(1, 20), st.just(128)))
    block = st.binary(min_size=16 * count, max_size=16 * count)
    messages = data.draw(st.lists(block, max_size=5))
    eme = EME(key)
    alone = b"".join(eme.encrypt(tweak, message) for message in messages)
    assert eme.encrypt_many(tweak, b"".join(messages), count) == alone
    assert eme.decrypt_many(tweak, alone, count) == b"".join(messages)


@pytest.mark.parametrize(
    ("length", "count", "tweak"), [(16, 0, 16), (2064, 129, 16), (48, 2, 16), (16, 1, 15)]
)
def test_eme_takes_many_of_one_length(length: int, count: int, tweak: int) -> None:
    """What is not a whole number of messages is OutOfRange, not a wrong answer."""
    with pytest.raises(OutOfRange):
        EME(KEY).encrypt_many(bytes(tweak), bytes(length), count)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_for_names_has_32_bytes(size: int) -> None:
    """Any other length is InvalidKey."""
    with pytest.raises(InvalidKey):
        NameCipher(bytes(size))


@given(valid_names, st.binary(min_size=16, max_size=16), st.booleans())
def test_each_valid_name_comes_back(name: bytes, iv: bytes, raw64: bool) -> None:
    """decrypt_name undoes encrypt_name; the text has 22 to 344 bytes of the URL-safe alphabet."""
    names = NameCipher(KEY, raw64)
    text = names.encrypt_name(name, iv)
    assert 22 <= len(text) <= 344
    assert set(text) <= set((string.ascii_letters + string.digits + "-_=").encode())
    assert names.decrypt_name(text, iv) == name


@given(
    st.lists(st.one_of(valid_names, valid_names.map(lambda name: name[:40]))),
    st.binary(min_size=16, max_size=16),
    st.booleans(),
)
def test_many_names_are_encrypted_as_each_alone(names: List[bytes], iv: bytes, raw64: bool) -> None:
    """encrypt_names gives what encrypt_name gives, in the same order, for lengths mixed and alike."""
    names = list(filter(is_valid_name, names))
    cipher = NameCipher(KEY, raw64)
    assert cipher.encrypt_names(names, iv) == [cipher.encrypt_name(name, iv) for name in names]


@given(
    st.lists(st.tuples(valid_names, st.integers(-1, 400), st.binary(min_size=1, max_size=2))),
    st.binary(min_size=16, max_size=16),
    st.booleans(),
)
def test_many_names_are_decrypted_as_each_alone(
    made: List[Tuple[bytes, int, bytes]], iv: bytes, raw64: bool
) -> None:
    """decrypt_names gives what decrypt_name gives, in the same order, and None where that raises."""
    cipher = NameCipher(KEY, raw64)
    texts = []
    for name, place, other in made:
        text = cipher.encrypt_name(name, iv)
        # Many stay as they are: the place is none, or behind the end.
        if 0 <= place < len(text):
            text = text[:place] + other + text[place + 1 :]
        texts += [text, text[: len(text) // 2]]
    assert cipher.decrypt_names(texts, iv) == [
        cipher._decrypt_if_possible(text, iv) for text in texts
    ]


@pytest.mark.parametrize("raw64", [True, False])
@pytest.mark.parametrize("size", [1, 16, 32, 250])
@pytest.mark.parametrize("last", [b"!", b"=", b"B", b"/"])
def test_decrypting_many_is_as_strict(raw64: bool, size: int, last: bytes) -> None:
    """One that does not decrypt is None, whatever is wrong with its end, and the others do."""
    cipher = NameCipher(KEY, raw64)
    names = [bytes([letter]) * size for letter in b"abc"]
    texts = [cipher.encrypt_name(name, IV) for name in names]
    texts[1] = texts[1][:-1] + last
    expected = [cipher._decrypt_if_possible(text, IV) for text in texts]
    assert cipher.decrypt_names(texts, IV) == expected
    assert (expected[0], expected[2]) == (names[0], names[2])


def test_the_same_name_differs_between_directories() -> None:
    """The directory IV is part of the encryption; without DirIV all directories are alike."""
    assert NAMES.encrypt_name(b"a", IV) != NAMES.encrypt_name(b"a", bytes(16))
    assert bytes(16) == DETERMINISTIC_IV


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"x" * 256])
def test_a_name_that_cannot_exist_is_not_encrypted(name: bytes) -> None:
    """UnencryptableName for what no directory can hold."""
    with pytest.raises(UnencryptableName):
        NAMES.encrypt_name(name, IV)
    with pytest.raises(UnencryptableName):
        NAMES.encrypt_names([b"a", name, b"c"], IV)


@pytest.mark.parametrize("name", [b".", b"..", b"a/b", b"a\0b", b"/"])
def test_a_name_that_cannot_exist_is_not_decrypted(name: bytes) -> None:
    """An enemy with the key could write such a name; following it would leave the directory."""
    with pytest.raises(InvalidName):
        NAMES.decrypt_name(NAMES._encrypt(name, IV), IV)
    assert NAMES.decrypt_names([NAMES._encrypt(name, IV)], IV) == [None]


@pytest.mark.parametrize(
    "padded",
    [
        b"\x10" * 16,  # nothing but padding
        b"name" + b"\x0c" * 11 + b"\x0b",  # the last byte disagrees
        b"name" + b"\x00" * 12,
        b"name" + b"\x01" + b"\x0c" * 11,  # the first byte disagrees
        b"x" * 15 + b"\x11",  # longer than a block
        b"x" * 15 + b"\xff",
    ],
)
def test_every_byte_of_the_padding_is_checked(padded: bytes) -> None:
    """InvalidName, whichever byte of the padding is wrong."""
    text = NAMES.encode(NAMES._eme.encrypt(IV, padded))
    with pytest.raises(InvalidName):
        NAMES.decrypt_name(text, IV)


@pytest.mark.parametrize("raw64", [False, True])
def test_each_changed_character_is_noticed_or_gives_another_name(raw64: bool) -> None:
    """There is one text for one name: no other text decrypts to the same name."""
    names = NameCipher(KEY, raw64)
    text = names.encrypt_name(b"a name", IV)
    for position in range(len(text)):
        for character in b"AQ_-+/=\n\r \x00\xff":
            other = text[:position] + bytes([character]) + text[position + 1 :]
            if other == text:
                continue
            with contextlib.suppress(InvalidEncoding, InvalidName):
                assert names.decrypt_name(other, IV) != b"a name"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b"\n",
        lambda text: b"\n" + text,
        lambda text: text[:5] + b"\r\n" + text[5:],
        lambda text: text[:5] + b" " + text[5:],
        lambda text: text[:-1],
        lambda text: text + b"AAA",
        lambda text: text.rstrip(b"=") + b"===",
        lambda text: b"+" + text[1:],
        lambda text: b"\xff" + text[1:],
    ],
)
@pytest.mark.parametrize("raw64", [False, True])
def test_base64_is_strict(change, raw64: bool) -> None:  # type: ignore[no-untyped-def]
    """What another decoder would skip or forgive is InvalidEncoding."""
    names = NameCipher(KEY, raw64)
    text = names.encode(b"0123456789abcdef")
    with pytest.raises(InvalidEncoding):
        names.decode(change(text))


def test_base64_refuses_stray_bits_and_the_other_padding() -> None:
    """Trailing bits must be zero, and Raw64 decides whether there is padding."""
    raw, padded = NameCipher(KEY, True), NameCipher(KEY, False)
    assert raw.decode(b"AA") == padded.decode(b"AA==") == b"\0"
    for names, text in [(raw, b"AB"), (padded, b"AB=="), (raw, b"AA=="), (padded, b"AA")]:
        with pytest.raises(InvalidEncoding):
            names.decode(text)


@pytest.mark.parametrize("size", [0, 8, 24, 272])
def test_an_encrypted_name_is_1_to_16_blocks(size: int) -> None:
    """InvalidName for other lengths, before anything is decrypted."""
    with pytest.raises(InvalidName):
        NAMES.decrypt_name(NAMES.encode(bytes(size)), IV)


@given(st.binary(max_size=400), st.binary(max_size=20))
def test_no_name_makes_anything_but_a_crypt_error(text: bytes, iv: bytes) -> None:
    """Any bytes as a name: a possible name comes out, or a CryptError."""
    with contextlib.suppress(CryptError):
        assert is_valid_name(NAMES.decrypt_name(text, iv))
    with contextlib.suppress(CryptError):
        NAMES.open_companion(text, iv)
    for stored in (text, b"user.gocryptfs." + text):
        with contextlib.suppress(CryptError):
            assert 0 < len(NAMES.decrypt_attribute_name(stored)) <= 175


@given(st.integers(1, 16), st.data())
def test_no_encrypted_blocks_make_anything_but_a_crypt_error(
    count: int, data: st.DataObject
) -> None:
    """Well-formed base64 of any blocks: a possible name comes out, or InvalidName."""
    blocks = data.draw(st.binary(min_size=16 * count, max_size=16 * count))
    with contextlib.suppress(InvalidName):
        assert is_valid_name(NAMES.decrypt_name(NAMES.encode(blocks), IV))


@pytest.mark.parametrize("raw64", [False, True])
def test_long_names_at_every_limit_and_length(raw64: bool) -> None:
    """Above the limit the hash is the name, and the companion restores what was hashed."""
    texts = [NameCipher(KEY, raw64).encrypt_name(b"n" * length, IV) for length in range(1, 256)]
    for limit in range(62, 256):
        names = NameCipher(KEY, raw64, limit)
        for text in texts[::16] + texts[-1:]:
            stored = names.stored_name(text)
            if len(text) <= limit:
                assert stored == text
                assert not is_long_name(stored)
            else:
                assert stored.startswith(b"gocryptfs.longname.")
                assert len(stored) == (62 if raw64 else 63)
                assert is_long_name(stored)
                assert not is_companion(stored)
                assert is_companion(stored + b".name")
                assert names.open_companion(stored, text) == text


def test_by_default_names_of_176_bytes_and_more_are_hashed() -> None:
    """175 bytes still fit into 255 characters of base64."""
    assert not is_long_name(NAMES.stored_name(NAMES.encrypt_name(b"n" * 175, IV)))
    assert is_long_name(NAMES.stored_name(NAMES.encrypt_name(b"n" * 176, IV)))


def test_a_companion_of_another_file_is_noticed() -> None:
    """Swapped, cut, extended or needless companions are InvalidName."""
    text = NAMES.encrypt_name(b"n" * 200, IV)
    other = NAMES.encrypt_name(b"m" * 200, IV)
    short = NAMES.encrypt_name(b"n", IV)
    stored = NAMES.stored_name(text)
    for content in (other, text[:-1], text + b"\n", b"", short, text * 1000):
        with pytest.raises(InvalidName):
            NAMES.open_companion(stored, content)
    with pytest.raises(InvalidName):
        NAMES.open_companion(short, short)


@pytest.mark.parametrize("limit", [-1, 0, 61, 256])
def test_the_limit_for_names_is_62_to_255(limit: int) -> None:
    """OutOfRange otherwise."""
    with pytest.raises(OutOfRange):
        NameCipher(KEY, True, limit)


def test_a_directory_iv_is_16_bytes_not_all_zero() -> None:
    """InvalidDirectoryIV otherwise, also where a name is to be encrypted with it."""
    assert check_directory_iv(IV) == IV
    assert check_directory_iv(new_directory_iv()) != check_directory_iv(new_directory_iv())
    for iv in (b"", bytes(16), IV[:15], IV + b"x"):
        with pytest.raises(InvalidDirectoryIV):
            check_directory_iv(iv)
    for iv in (b"", IV[:15], IV + b"x"):
        with pytest.raises(InvalidDirectoryIV):
            NAMES.encrypt_name(b"a", iv)
        with pytest.raises(InvalidDirectoryIV):
            NAMES.decrypt_name(NAMES.encrypt_name(b"a", IV), iv)
        with pytest.raises(InvalidDirectoryIV):
            NAMES.decrypt_names([NAMES.encrypt_name(b"a", IV)], iv)


@pytest.mark.parametrize("raw64", [False, True])
def test_attribute_names_of_each_length_fit(raw64: bool) -> None:
    """1 to 175 bytes of any namespace become `user.gocryptfs.` and base64, at most 255 bytes."""
    names = NameCipher(KEY, raw64)
    for length in range(1, 176):
        stored = names.encrypt_attribute_name(b"a" * length)
        assert stored.startswith(b"user.gocryptfs.")
        assert len(stored) <= 255
        assert names.decrypt_attribute_name(stored) == b"a" * length


def test_acl_names_stay_as_they_are() -> None:
    """The kernel must find them, so they are not encrypted."""
    for name in PLAIN_ATTRIBUTES:
        assert NAMES.encrypt_attribute_name(name) == NAMES.decrypt_attribute_name(name) == name


@pytest.mark.parametrize("name", [b"", b"a\0b", b"a" * 176])
def test_an_attribute_name_that_cannot_be_stored_is_refused(name: bytes) -> None:
    """UnencryptableName on the way in, InvalidName on the way out."""
    with pytest.raises(UnencryptableName):
        NAMES.encrypt_attribute_name(name)
    with pytest.raises(InvalidName):
        NAMES.decrypt_attribute_name(b"user.gocryptfs." + NAMES._encrypt(name, b"xattr_name_iv_xx"))


@pytest.mark.parametrize("name", [b"system.posix_acl_access", b"system.posix_acl_default"])
def test_an_acl_that_is_encrypted_is_refused(name: bytes) -> None:
    """Old versions of gocryptfs stored them so; newer ones do not take them for the file's."""
    stored = b"user.gocryptfs." + NAMES._encrypt(name, b"xattr_name_iv_xx")
    with pytest.raises(InvalidName):
        NAMES.decrypt_attribute_name(stored)


@pytest.mark.parametrize("stored", [b"", b"user.comment", b"user.gocryptfs", b"user.gocryptfs."])
def test_an_attribute_that_is_not_encrypted_is_refused(stored: bytes) -> None:
    """InvalidName for names without the prefix, or with nothing after it."""
    with pytest.raises(InvalidName):
        NAMES.decrypt_attribute_name(stored)


def test_threads_may_share_a_cipher() -> None:
    """Four threads at once get what one alone gets."""
    plain = [b"%d" % number * (number % 40 + 1) for number in range(1, 60)]
    expected = [NAMES.encrypt_name(name, IV) for name in plain]
    failures: List[str] = []

    def work() -> None:
        for _, (name, text) in itertools.product(range(10), zip(plain, expected)):
            if NAMES.encrypt_name(name, IV) != text or NAMES.decrypt_name(text, IV) != name:
                failures.append(text.decode())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
