"""Content: RFC 5297's vectors, sizes both ways, ranges, holes, and every kind of damage."""

import contextlib
import sys
import threading
from typing import Any, Callable, List, Tuple

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import aead
from hypothesis import given
from hypothesis import strategies as st

from fusepy_legacy.crypt import content, errors
from fusepy_legacy.crypt.content import (
    AES_GCM,
    AES_SIV,
    BLOCK_SIZE,
    HEADER_SIZE,
    XCHACHA20_POLY1305,
    Algorithm,
    ContentCipher,
    Layout,
    new_file_id,
    pack_header,
    parse_header,
)
from fusepy_legacy.crypt.errors import (
    AuthenticationFailed,
    BlockError,
    CipherUnavailable,
    CryptError,
    InvalidEncoding,
    InvalidHeader,
    InvalidKey,
    OutOfRange,
    TruncatedBlock,
    UnsafeNonce,
    ZeroNonce,
)
from fusepy_legacy.crypt.metadata import decrypt_attribute, decrypt_target, encrypt_target
from fusepy_legacy.crypt.names import NameCipher
from fusepy_legacy.crypt.xchacha import XChaCha20Poly1305

GCM = ContentCipher(AES_GCM, bytes(range(32)))
SIV = ContentCipher(AES_SIV, bytes(range(64)))
NAMES = NameCipher(bytes(range(32)))
FILE_ID = bytes(range(1, 17))
OVERHEAD = 32
ENCRYPTED_BLOCK = BLOCK_SIZE + OVERHEAD
PLAIN = b"".join(b"%7d\n" % number for number in range(0, 2000))[: 3 * BLOCK_SIZE + 100]

ciphers = pytest.mark.parametrize("cipher", [GCM, SIV], ids=["gcm", "siv"])
algorithms = pytest.mark.parametrize(
    "algorithm", [AES_GCM, AES_SIV, XCHACHA20_POLY1305], ids=["gcm", "siv", "xchacha"]
)


def test_rfc_5297_deterministic_vector() -> None:
    """RFC 5297, appendix A.1, on the library's cipher that is used here."""
    key = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    data = bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")
    output = aead.AESSIV(key).encrypt(bytes.fromhex("112233445566778899aabbccddee"), [data])
    assert output.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"


def test_rfc_5297_nonce_vector() -> None:
    """RFC 5297, appendix A.2: a nonce is the last associated data."""
    key = bytes.fromhex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f")
    first = "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100"
    data = [bytes.fromhex(first), bytes.fromhex("102030405060708090a0")]
    nonce = bytes.fromhex("09f911029d74e35bd84156c5635688c0")
    plain = b"this is some plaintext to encrypt using SIV-AES"
    assert aead.AESSIV(key).encrypt(plain, [*data, nonce]).hex() == (
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17"
        "dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
    )


def test_aes_siv_agrees_with_gocryptfs() -> None:
    """gocryptfs, siv_aead/correctness_test.go, the vector with a key of 64 bytes."""
    cipher = ContentCipher(AES_SIV, b"\1" * 64)
    output = cipher._seal(b"\2" * 16, bytes(range(1, 10)), bytes(24))
    assert output.hex() == "317b316f67c3ad336c01c9a01b4c5e552ba89e966bc4c1ade1"


@algorithms
def test_sizes_at_the_edges(algorithm: Algorithm) -> None:
    """C(0) = 0 and C(p) = 18 + p + O * ceil(p / 4096), O being nonce and tag."""
    layout = Layout(algorithm)
    overhead = 40 if algorithm is XCHACHA20_POLY1305 else 32
    assert layout.encrypted_size(0) == 0
    assert layout.encrypted_size(1) == 18 + 1 + overhead
    assert layout.encrypted_size(4096) == 18 + 4096 + overhead
    assert layout.encrypted_size(4097) == 18 + 4097 + 2 * overhead


@given(st.integers(0, 1 << 62), st.sampled_from([AES_GCM, XCHACHA20_POLY1305]))
def test_sizes_are_inverse(size: int, algorithm: Algorithm) -> None:
    """plaintext_size undoes encrypted_size."""
    layout = Layout(algorithm)
    assert layout.plaintext_size(layout.encrypted_size(size)) == size


@algorithms
def test_a_cut_file_still_has_a_size(algorithm: Algorithm) -> None:
    """Part of a header holds nothing; a last block too short for a byte counts as one byte."""
    layout = Layout(algorithm)
    block = layout.encrypted_block_size
    for size in range(0, 19):
        assert layout.plaintext_size(size) == 0
    for rest in range(1, layout.overhead + 2):
        assert layout.plaintext_size(18 + rest) == 1
        assert layout.plaintext_size(18 + block + rest) == 4097
    sizes = [layout.plaintext_size(size) for size in range(0, 3 * block)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("size", [-1, 1 << 63, 1 << 100])
def test_sizes_beyond_the_largest_file_are_refused(size: int) -> None:
    """OutOfRange, for each function that takes a size, an offset or a block number."""
    calls: List[Callable[[], Any]] = [
        lambda: GCM.encrypted_size(size),
        lambda: GCM.plaintext_size(size),
        lambda: GCM.locate(size, 1),
        lambda: GCM.locate(0, size),
        lambda: GCM.locate(size - 8192, 1),  # its block begins past the largest file
        lambda: GCM.encrypt_blocks(b"x", size, FILE_ID),
        lambda: GCM.decrypt_blocks(b"x" * 100, size, FILE_ID),
    ]
    for call in calls:
        with pytest.raises(OutOfRange):
            call()
    with pytest.raises(OutOfRange):
        GCM.encrypted_size((1 << 63) - 1)


@ciphers
@given(st.binary(max_size=3 * BLOCK_SIZE), st.integers(0, 1 << 40))
def test_blocks_come_back(cipher: ContentCipher, plain: bytes, first: int) -> None:
    """decrypt_blocks undoes encrypt_blocks, from bytes and from a memoryview."""
    encrypted = cipher.encrypt_blocks(memoryview(plain), first, FILE_ID)
    assert len(encrypted) == max(cipher.encrypted_size(len(plain)) - HEADER_SIZE, 0)
    assert cipher.decrypt_blocks(encrypted, first, FILE_ID) == plain
    assert cipher.decrypt_blocks(memoryview(bytearray(encrypted)), first, FILE_ID) == plain


@ciphers
@given(st.integers(0, len(PLAIN) + 5000), st.integers(0, len(PLAIN) + 5000))
def test_any_range_is_read_from_its_own_blocks(
    cipher: ContentCipher, offset: int, length: int
) -> None:
    """The blocks that locate names are enough for the range, and not one more than needed."""
    file = pack_header(FILE_ID) + cipher.encrypt_blocks(PLAIN, 0, FILE_ID)
    blocks = cipher.locate(offset, length)
    last = (offset + length - 1) // BLOCK_SIZE if length else offset // BLOCK_SIZE - 1
    assert blocks.length == (last + 1 - offset // BLOCK_SIZE) * ENCRYPTED_BLOCK
    part = file[blocks.offset : blocks.offset + blocks.length]
    plain = cipher.decrypt_blocks(part, blocks.first, FILE_ID)
    assert plain[blocks.skip : blocks.skip + length] == PLAIN[offset : offset + length]


def test_a_range_of_nothing_needs_no_block() -> None:
    """Also in the middle of a block."""
    assert [GCM.locate(offset, 0).length for offset in (0, 1, 4095, 4096)] == [0, 0, 0, 0]


@ciphers
def test_the_same_plaintext_never_encrypts_to_the_same_bytes(cipher: ContentCipher) -> None:
    """Nonces are random, in each block and at each call."""
    encrypted = cipher.encrypt_blocks(bytes(2 * BLOCK_SIZE), 0, FILE_ID)
    again = cipher.encrypt_blocks(bytes(2 * BLOCK_SIZE), 0, FILE_ID)
    nonces = [encrypted[:16], encrypted[ENCRYPTED_BLOCK:][:16], again[:16]]
    assert len(set(nonces)) == 3


def test_nonces_can_be_chosen_for_aes_siv_only() -> None:
    """With a repeated nonce AES-GCM would give away its key, so it is not to be had."""
    iv = bytes(8) + b"\xff" * 8
    encrypted = SIV.encrypt_blocks(bytes(3 * BLOCK_SIZE), 5, FILE_ID, iv)
    nonces = [encrypted[start:][:16] for start in range(0, len(encrypted), ENCRYPTED_BLOCK)]
    assert nonces == [bytes(15) + bytes([number]) for number in (4, 5, 6)]  # counted mod 2^64
    assert SIV.encrypt_blocks(bytes(3 * BLOCK_SIZE), 5, FILE_ID, iv) == encrypted
    assert SIV.encrypt_value(b"x", iv) == SIV.encrypt_value(b"x", iv)
    with pytest.raises(UnsafeNonce):
        GCM.encrypt_blocks(b"x", 0, FILE_ID, iv)
    with pytest.raises(UnsafeNonce):
        GCM.encrypt_value(b"x", iv)
    with pytest.raises(OutOfRange):
        SIV.encrypt_value(b"x", iv[:15])


# Each changes four whole encrypted blocks, the last of them short; says which block is reported.
def flip(position: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def blocks_of(data: bytes) -> List[bytes]:
    return [data[start:][:ENCRYPTED_BLOCK] for start in range(0, len(data), ENCRYPTED_BLOCK)]


def reorder(*order: int) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(blocks_of(data)[number] for number in order)


def zeros(first: int, length: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:first] + bytes(length) + data[first + length :]


DAMAGE: List[Tuple[str, Callable[[bytes], bytes], Any, int]] = [
    ("nonce flipped", flip(0), AuthenticationFailed, 0),
    ("first byte flipped", flip(16), AuthenticationFailed, 0),
    ("last byte flipped", flip(ENCRYPTED_BLOCK - 1), AuthenticationFailed, 0),
    ("block 2 flipped", flip(2 * ENCRYPTED_BLOCK + 2000), AuthenticationFailed, 2),
    ("swapped", reorder(1, 0, 2, 3), AuthenticationFailed, 0),
    ("reordered", reorder(0, 2, 1, 3), AuthenticationFailed, 1),
    ("repeated", reorder(0, 1, 1, 3), AuthenticationFailed, 2),
    ("left out", reorder(0, 2, 3), AuthenticationFailed, 1),
    ("cut in a block", lambda data: data[: ENCRYPTED_BLOCK + 2000], AuthenticationFailed, 1),
    ("cut in a nonce", lambda data: data[: 2 * ENCRYPTED_BLOCK + 5], TruncatedBlock, 2),
    ("cut to no byte", lambda data: data[: ENCRYPTED_BLOCK + 32], TruncatedBlock, 1),
    ("cut at the front", lambda data: data[1:], AuthenticationFailed, 0),
    ("extended", lambda data: data + b"x", AuthenticationFailed, 3),
    ("extended by a block", lambda data: data + data, AuthenticationFailed, 3),
    ("nonce zero", zeros(ENCRYPTED_BLOCK, 16), ZeroNonce, 1),
    ("all zero but a byte", zeros(ENCRYPTED_BLOCK, ENCRYPTED_BLOCK - 1), ZeroNonce, 1),
    ("short block zero", zeros(3 * ENCRYPTED_BLOCK, 132), ZeroNonce, 3),
]


@ciphers
@pytest.mark.parametrize(
    ("name", "damage", "error", "block"), DAMAGE, ids=[row[0] for row in DAMAGE]
)
def test_damage_is_found_and_named(
    cipher: ContentCipher, name: str, damage: Callable[[bytes], bytes], error: Any, block: int
) -> None:
    """Each kind of damage has its class and the number of the first bad block, and no plaintext."""
    encrypted = cipher.encrypt_blocks(PLAIN, 7, FILE_ID)
    with pytest.raises(error) as caught:
        cipher.decrypt_blocks(damage(encrypted), 7, FILE_ID)
    assert type(caught.value) is error
    assert caught.value.block == 7 + block
    assert len(str(caught.value)) < 60
    assert caught.value.__cause__ is None


@ciphers
def test_blocks_of_another_file_key_or_place_do_not_authenticate(cipher: ContentCipher) -> None:
    """The file ID, the key and the number of the block are part of the proof."""
    encrypted = cipher.encrypt_blocks(PLAIN, 7, FILE_ID)
    stranger = ContentCipher(cipher.algorithm, b"k" * cipher.algorithm.key_length)
    for reader, first, file_id in [
        (cipher, 7, new_file_id()),
        (cipher, 8, FILE_ID),
        (stranger, 7, FILE_ID),
    ]:
        with pytest.raises(AuthenticationFailed):
            reader.decrypt_blocks(encrypted, first, file_id)


@ciphers
def test_a_full_block_of_zeros_is_a_hole(cipher: ContentCipher) -> None:
    """It reads as 4096 zeros at any place, between other blocks and alone."""
    hole = bytes(ENCRYPTED_BLOCK)
    encrypted = cipher.encrypt_blocks(PLAIN, 0, FILE_ID)
    data = encrypted[:ENCRYPTED_BLOCK] + hole + encrypted[2 * ENCRYPTED_BLOCK :]
    expected = PLAIN[:BLOCK_SIZE] + bytes(BLOCK_SIZE) + PLAIN[2 * BLOCK_SIZE :]
    assert cipher.decrypt_blocks(data, 0, FILE_ID) == expected
    assert cipher.decrypt_blocks(hole * 3, 9, FILE_ID) == bytes(3 * BLOCK_SIZE)


ENCRYPTED = {cipher: cipher.encrypt_blocks(PLAIN[:5000], 0, FILE_ID) for cipher in (GCM, SIV)}


@ciphers
@given(st.data())
def test_no_change_of_a_byte_goes_unnoticed(cipher: ContentCipher, data: st.DataObject) -> None:
    """Any other byte at any place is a BlockError, never plaintext and never another exception."""
    encrypted = ENCRYPTED[cipher]
    position = data.draw(st.integers(0, len(encrypted) - 1))
    changed = bytearray(encrypted)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BlockError):
        cipher.decrypt_blocks(changed, 0, FILE_ID)


@ciphers
@given(st.binary(max_size=5000), st.integers(-1, 1 << 64), st.binary(max_size=20))
def test_no_bytes_make_anything_but_a_crypt_error(
    cipher: ContentCipher, data: bytes, first: int, file_id: bytes
) -> None:
    """Any bytes, any block number, any file ID: nothing decrypts, and only CryptError is raised."""
    with contextlib.suppress(CryptError):
        assert cipher.decrypt_blocks(data, first, file_id) == data == b""
    with contextlib.suppress(CryptError):
        assert cipher.decrypt_value(data) == data == b""
    with contextlib.suppress(CryptError):
        cipher.encrypt_blocks(data, first, file_id, file_id)
    for function in (decrypt_target, decrypt_attribute):
        with contextlib.suppress(CryptError):
            assert function(cipher, NAMES, data) == data == b""


def test_a_header_is_version_2_and_the_file_id() -> None:
    """18 bytes: 2 as uint16, most significant byte first, then the ID."""
    assert pack_header(FILE_ID) == b"\0\2" + FILE_ID
    assert parse_header(pack_header(FILE_ID)) == FILE_ID
    assert new_file_id() != new_file_id()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\0\2",
        b"\0\2" + FILE_ID[:15],
        b"\0\2" + FILE_ID + b"x",
        b"\0\1" + FILE_ID,
        b"\2\0" + FILE_ID,
        bytes(18),
        b"\0\2" + bytes(16),
    ],
)
def test_any_other_header_is_refused(header: bytes) -> None:
    """InvalidHeader if cut, oversized, of another version, or zero."""
    with pytest.raises(InvalidHeader):
        parse_header(header)


@pytest.mark.parametrize("file_id", [b"", bytes(16), FILE_ID[:15], FILE_ID + b"x"])
def test_an_impossible_file_id_is_refused(file_id: bytes) -> None:
    """InvalidHeader, wherever one is taken."""
    with pytest.raises(InvalidHeader):
        pack_header(file_id)
    with pytest.raises(InvalidHeader):
        GCM.encrypt_blocks(b"x", 0, file_id)
    with pytest.raises(InvalidHeader):
        GCM.decrypt_blocks(bytes(100), 0, file_id)


@algorithms
def test_a_key_of_another_length_is_refused(algorithm: Algorithm) -> None:
    """InvalidKey, also where the cipher is not to be had."""
    for length in (0, 16, 31, 33, 63, 65):
        with pytest.raises(InvalidKey):
            ContentCipher(algorithm, bytes(length))


def test_xchacha_is_refused_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error that names the cipher, and what to install."""
    monkeypatch.setitem(sys.modules, "nacl", None)
    with pytest.raises(CipherUnavailable, match=r"XChaCha20-Poly1305 .*PyNaCl"):
        ContentCipher(XCHACHA20_POLY1305, bytes(32))


def test_a_library_without_the_cipher_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old OpenSSL has no AES-SIV."""

    def refuse(key: bytes) -> None:
        raise UnsupportedAlgorithm("no AES-SIV")

    monkeypatch.setitem(content._CLASSES, AES_SIV, refuse)
    with pytest.raises(CipherUnavailable, match="AES-SIV"):
        ContentCipher(AES_SIV, bytes(64))


def test_xchacha_is_the_published_cipher() -> None:
    """The example of draft-irtf-cfrg-xchacha-03, appendix A.3.1."""
    pytest.importorskip("nacl")
    cipher = XChaCha20Poly1305(bytes(range(0x80, 0xA0)))
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    nonce, data = bytes(range(0x40, 0x58)), bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    sealed = cipher.encrypt(nonce, plain, data)
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert cipher.decrypt(nonce, memoryview(sealed), data) == plain


def test_blocks_of_xchacha_have_nonces_of_24_bytes() -> None:
    """All else is as with the other ciphers."""
    pytest.importorskip("nacl")
    cipher = ContentCipher(XCHACHA20_POLY1305, bytes(32))
    encrypted = cipher.encrypt_blocks(PLAIN, 0, FILE_ID)
    assert len(encrypted) == cipher.encrypted_size(len(PLAIN)) - HEADER_SIZE
    assert cipher.decrypt_blocks(encrypted, 0, FILE_ID) == PLAIN
    assert cipher.decrypt_value(cipher.encrypt_value(b"value")) == b"value"
    with pytest.raises(UnsafeNonce):
        cipher.encrypt_blocks(PLAIN, 0, FILE_ID, bytes(24))
    with pytest.raises(AuthenticationFailed):
        cipher.decrypt_blocks(encrypted, 1, FILE_ID)
    flipped = bytearray(encrypted)
    flipped[-1] ^= 1
    with pytest.raises(AuthenticationFailed):
        cipher.decrypt_blocks(flipped, 0, FILE_ID)


@ciphers
@given(st.binary(max_size=3039))
def test_targets_come_back(cipher: ContentCipher, target: bytes) -> None:
    """decrypt_target undoes encrypt_target, which gives at most 4095 bytes; empty stays empty."""
    text = encrypt_target(cipher, NAMES, target)
    assert len(text) <= 4095
    assert bool(text) == bool(target)
    assert decrypt_target(cipher, NAMES, text) == target


def test_a_target_that_no_longer_fits_is_refused() -> None:
    """3039 bytes fit, 3040 do not."""
    assert len(encrypt_target(GCM, NAMES, b"x" * 3039)) == 4095
    with pytest.raises(OutOfRange):
        encrypt_target(GCM, NAMES, b"x" * 3040)


@ciphers
def test_attribute_values_come_back_in_both_stored_forms(cipher: ContentCipher) -> None:
    """Raw as they are written, or in base64 as old versions did; empty stays empty."""
    for value in (b"", b"x", bytes(65536)):
        stored = cipher.encrypt_value(value)
        assert decrypt_attribute(cipher, NAMES, stored) == value
        assert decrypt_attribute(cipher, NAMES, NAMES.encode(stored)) == value


@ciphers
def test_damaged_values_are_refused(cipher: ContentCipher) -> None:
    """Each kind of damage has its class, and no block number."""
    stored = cipher.encrypt_value(b"value")
    damage: List[Tuple[bytes, Any]] = [
        (stored[:32], TruncatedBlock),
        (stored[:3], TruncatedBlock),
        (stored[:-1], AuthenticationFailed),
        (stored + b"x", AuthenticationFailed),
        (bytes(16) + stored[16:], ZeroNonce),
        (bytes(len(stored)), ZeroNonce),
        (bytes(1 << 20), OutOfRange),
    ]
    for data, error in damage:
        with pytest.raises(error) as caught:
            cipher.decrypt_value(data)
        assert getattr(caught.value, "block", None) is None
        with pytest.raises(error):
            decrypt_attribute(cipher, NAMES, data)
        with pytest.raises(error):
            decrypt_target(cipher, NAMES, NAMES.encode(data))
    with pytest.raises(InvalidEncoding):
        decrypt_target(cipher, NAMES, NAMES.encode(stored) + b"\n")
    with pytest.raises(OutOfRange):
        cipher.encrypt_value(bytes(1 << 20))


def test_all_errors_have_one_base() -> None:
    """Who catches CryptError catches everything that data, keys and passwords can cause."""
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(found) >= 18
    assert all(issubclass(error, CryptError) for error in found)


@ciphers
def test_threads_may_share_a_cipher(cipher: ContentCipher) -> None:
    """Four threads at once each read back what they wrote."""
    failures: List[int] = []

    def work(first: int) -> None:
        for _ in range(20):
            encrypted = cipher.encrypt_blocks(PLAIN, first, FILE_ID)
            if cipher.decrypt_blocks(encrypted, first, FILE_ID) != PLAIN:
                failures.append(first)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
