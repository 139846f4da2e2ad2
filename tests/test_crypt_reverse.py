"""Reverse: gocryptfs's published values, ranges of the encrypted view, our rule for hard links."""

import hashlib
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepy_legacy.crypt.config import FORWARD, REVERSE, create, master_key_from_text
from fusepy_legacy.crypt.content import AES_GCM, AES_SIV, ContentCipher, pack_header, parse_header
from fusepy_legacy.crypt.errors import OutOfRange, UnsafeNonce
from fusepy_legacy.crypt.names import NameCipher
from fusepy_legacy.crypt.reverse import (
    attribute_nonce,
    directory_iv,
    encrypt_range,
    file_ivs,
    hard_link_path,
    plaintext_range,
    symlink_nonce,
)

SIV = ContentCipher(AES_SIV, bytes(range(64)))
IVS = file_ivs(b"directory/file")
PLAIN = b"".join(b"%7d\n" % number for number in range(0, 2000))[: 3 * 4096 + 100]
WHOLE = pack_header(IVS.file_id) + SIV.encrypt_blocks(PLAIN, 0, IVS.file_id, IVS.block0_iv)

# gocryptfs, tests/example_filesystems/v1.3-reverse and tests/reverse/ctlsock_reverse_test_fs
EXAMPLE_KEY = "2290a7f4-3e1908fb-b006f7d9-261bdaf1-4b72bc38-3b24956c-db7d8a8d-d996076a"
OLD_EXAMPLE_KEY = "c9558125-4f06a83d-a30d4131-be1a934f-8625db4f-e4819be3-ef8c0bae-08dea7c4"


def encrypted_path(names: NameCipher, components: List[bytes]) -> bytes:
    path = b""
    for name in components:
        stored = names.stored_name(names.encrypt_name(name, directory_iv(path)))
        path = path + b"/" + stored if path else stored
    return path


def test_the_published_path_and_file() -> None:
    """gocryptfs's v1.3 example: dir1/dir2/file of 10000 zeros, its encrypted path and MD5."""
    config, _ = create(b"x", REVERSE, scrypt_n=1024)
    key = master_key_from_text(EXAMPLE_KEY)
    path = encrypted_path(config.name_cipher(key), [b"dir1", b"dir2", b"file"])
    assert path == b"zOsW1-BUX54hC2hmhu2EOw/4ZqrpGQdw5r07KR1qw2ZeQ/tfCm9Sp9J_Dvc-jD7J6p8g"
    content = config.content_cipher(key)
    shown = encrypt_range(content, file_ivs(path), 0, 1 << 20, bytes(10000))
    assert hashlib.md5(shown).hexdigest() == "9818501d214c5eb42ca2472caf6c82a1"


@pytest.mark.parametrize(
    ("plain", "encrypted"),
    [
        ([b"file"], b"4RQq1dJlfvQPaVU5Xypf0w=="),
        (
            [b"longfile." + b"x" * 240],
            b"gocryptfs.longname.ZQCAoi5li3xvDZRO8McBV0L_kzJc4IcAOEzuW-2S1Y4=",
        ),
        (
            [b"dir", b"dir", b"dir"],
            b"v6puXntoQOk7Mhl8zJ4Idg==/fvHFLHlxHCQ7EpVMJu0AZg==/_4uudIGniACke55JoDsqDA==",
        ),
        (
            [b"longdir." + b"x" * 240, b"file"],
            b"gocryptfs.longname.cvRximo1ATRJVEzw_V9MZieHFlod9y2iv2Sug1kbiTE=/rBPJYAzcHWLdPj1T8kgh8A==",
        ),
    ],
)
def test_the_published_paths_without_hkdf_and_raw64(plain: List[bytes], encrypted: bytes) -> None:
    """gocryptfs, tests/reverse/ctlsock_test.go: a tree of the time before 1.3."""
    config, _ = create(b"x", REVERSE - {"HKDF", "Raw64"}, scrypt_n=1024)
    names = config.name_cipher(master_key_from_text(OLD_EXAMPLE_KEY))
    assert encrypted_path(names, plain) == encrypted


def test_the_root_has_the_same_directory_iv_everywhere() -> None:
    """It follows from the empty path alone."""
    assert directory_iv(b"").hex() == "a8f7bac432ddc1cb3dc74e684d6ae48b"


def test_each_derived_value_has_its_own_purpose() -> None:
    """No two values of one path are equal, nor those of two paths."""
    values = [
        value
        for path in (b"", b"a", b"a/a", b"b")
        for value in (
            directory_iv(path),
            *file_ivs(path),
            symlink_nonce(path),
            attribute_nonce(path, b"user.gocryptfs.a"),
            attribute_nonce(path, b"user.gocryptfs.b"),
        )
    ]
    assert len(set(values)) == len(values)
    assert {len(value) for value in values} == {16}


def test_a_symlink_hashes_its_last_component_twice() -> None:
    """As gocryptfs does; the samples that it wrote confirm it."""
    expected = hashlib.sha256(b"a/b/link/link\0SYMLINKIV").digest()[:16]
    assert symlink_nonce(b"a/b/link") == expected
    assert symlink_nonce(b"link") == hashlib.sha256(b"link/link\0SYMLINKIV").digest()[:16]


def test_hard_links_follow_filesystem_and_inode() -> None:
    """Other inodes, other beginnings and every path differ."""
    others = [
        file_ivs(hard_link_path(b"begin", 5)),
        file_ivs(hard_link_path(b"begin", 6)),
        file_ivs(hard_link_path(b"begin", 55)),
        file_ivs(hard_link_path(b"begin5", 5)),
        file_ivs(hard_link_path(b"", 5)),
        file_ivs(hard_link_path(b"", (1 << 64) - 1)),
        file_ivs(b"begin"),
        file_ivs(b"begin/5"),
        file_ivs(b"5"),
    ]
    assert len(set(others)) == len(others)


def test_the_rule_for_hard_links_is_frozen() -> None:
    """Another rule would make every backup of a linked file differ from the last one."""
    ivs = file_ivs(hard_link_path(b"begin", 1234))
    assert ivs.file_id == hashlib.sha256(b"begin\x001234\0FILEID").digest()[:16]
    assert ivs.block0_iv == hashlib.sha256(b"begin\x001234\0BLOCK0IV").digest()[:16]


@pytest.mark.parametrize("inode", [-1, 1 << 64])
def test_an_impossible_inode_is_refused(inode: int) -> None:
    """OutOfRange."""
    with pytest.raises(OutOfRange):
        hard_link_path(b"", inode)


@given(st.integers(0, len(WHOLE) + 9000), st.integers(0, len(WHOLE) + 9000))
def test_any_range_is_that_of_the_whole(offset: int, length: int) -> None:
    """Read in any pieces, the encrypted file is the same; only the blocks needed are read."""
    wanted = plaintext_range(SIV, offset, length)
    assert wanted.offset % 4096 == wanted.length % 4096 == 0
    assert wanted.length <= length + 2 * 4096
    plain = PLAIN[wanted.offset : wanted.offset + wanted.length]
    assert encrypt_range(SIV, IVS, offset, length, plain) == WHOLE[offset : offset + length]


@pytest.mark.parametrize("edge", [0, 18, 18 + 4128, 18 + 2 * 4128, len(WHOLE)])
def test_ranges_at_the_edges_of_header_and_blocks(edge: int) -> None:
    """One byte more or less than a block or the header, on both ends, as well."""
    for offset in range(max(edge - 20, 0), edge + 20):
        for length in (0, 1, 17, 18, 19, 20, 4127, 4128, 4129):
            wanted = plaintext_range(SIV, offset, length)
            plain = PLAIN[wanted.offset : wanted.offset + wanted.length]
            shown = encrypt_range(SIV, IVS, offset, length, plain)
            assert shown == WHOLE[offset : offset + length]


def test_the_whole_decrypts_without_these_rules() -> None:
    """ID and nonces are stored, so a reader needs the key only."""
    file_id = parse_header(WHOLE[:18])
    assert SIV.decrypt_blocks(WHOLE[18:], 0, file_id) == PLAIN


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 1), (0, 18), (5, 5000), (18, 1)])
def test_an_empty_file_stays_empty(offset: int, length: int) -> None:
    """It has no header, at whatever offset it is read."""
    assert encrypt_range(SIV, IVS, offset, length, b"") == b""


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (1 << 64, 1)])
def test_an_impossible_range_is_refused(offset: int, length: int) -> None:
    """OutOfRange."""
    with pytest.raises(OutOfRange):
        encrypt_range(SIV, IVS, offset, length, b"x")


def test_the_reverse_view_is_for_aes_siv_only() -> None:
    """UnsafeNonce with any other cipher: derived nonces repeat whenever a file changes."""
    config, key = create(b"x", FORWARD, scrypt_n=1024)
    for cipher in (ContentCipher(AES_GCM, bytes(32)), config.content_cipher(key)):
        with pytest.raises(UnsafeNonce):
            encrypt_range(cipher, IVS, 0, 100, b"x")
