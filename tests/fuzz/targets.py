"""One function for each kind of data that comes from an encrypted tree: any bytes in, CryptError or a result.

Any other exception is a finding, and so is plaintext that nobody encrypted. The keys are fixed, so that
the corpus holds data that authenticates.
"""

from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, Iterator

from fusepy_legacy.crypt.config import parse
from fusepy_legacy.crypt.content import (
    AES_GCM,
    AES_SIV,
    BLOCK_SIZE,
    HEADER_SIZE,
    ContentCipher,
    parse_header,
)
from fusepy_legacy.crypt.errors import BlockError, CryptError
from fusepy_legacy.crypt.metadata import decrypt_attribute, decrypt_target
from fusepy_legacy.crypt.names import NameCipher, check_directory_iv, is_valid_name

CORPUS = Path(__file__).parent / "corpus"
GCM = ContentCipher(AES_GCM, bytes(range(32)))
SIV = ContentCipher(AES_SIV, bytes(range(64)))
NAMES = NameCipher(bytes(range(32)))
PADDED_NAMES = NameCipher(bytes(range(32)), raw64=False, long_name_max=62)
IV = bytes(range(16))
PLAIN = b"plain " * 3000  # whose blocks the corpus has encrypted

_SCRYPT_MEMORY = 1 << 20  # as little as scrypt's minimum: a finding is not to be waited for


def config(data: bytes) -> None:
    """The bytes of a config: what is read is written, read again, and unlocked."""
    with suppress(CryptError):
        read = parse(data)
        assert parse(read.to_bytes()) == read
        read.unlock(b"sample", _SCRYPT_MEMORY)


def name(data: bytes) -> None:
    """An encrypted name: what decrypts is a possible name, and the only text for it."""
    for cipher in (NAMES, PADDED_NAMES):
        with suppress(CryptError):
            plain = cipher.decrypt_name(data, IV)
            assert is_valid_name(plain)
            assert cipher.encrypt_name(plain, IV) == data
        with suppress(CryptError):
            cipher.open_companion(cipher.stored_name(data), data)
        with suppress(CryptError):
            cipher.open_companion(data, data)
    with suppress(CryptError):
        check_directory_iv(data)


def content(data: bytes) -> None:
    """An encrypted file: what decrypts is what was encrypted, or holes; an error names a block of it."""
    with suppress(CryptError):
        file_id = parse_header(data[:HEADER_SIZE])
        for cipher in (GCM, SIV):
            blocks = data[HEADER_SIZE:]
            count = -(-len(blocks) // cipher.encrypted_block_size)
            bad = None
            try:
                plain = cipher.decrypt_blocks(blocks, 0, file_id)
            except BlockError as error:
                bad = error
            if bad is not None:
                assert bad.block is not None
                assert bad.block < count
                continue
            assert len(plain) == cipher.plaintext_size(len(data))
            for start in range(0, len(plain), BLOCK_SIZE):
                block = plain[start : start + BLOCK_SIZE]
                assert block in (bytes(BLOCK_SIZE), PLAIN[start : start + len(block)])


def attribute(data: bytes) -> None:
    """Name or value of an extended attribute, or a symlink's target."""
    with suppress(CryptError):
        plain = NAMES.decrypt_attribute_name(data)
        assert NAMES.encrypt_attribute_name(plain) == data
    for cipher in (GCM, SIV):
        for decrypt in (decrypt_attribute, decrypt_target):
            with suppress(CryptError):
                assert decrypt(cipher, NAMES, data) in (b"", b"value")


TARGETS: Dict[str, Callable[[bytes], None]] = {
    function.__name__: function for function in (config, name, content, attribute)
}


def corpus(target: str) -> Iterator[bytes]:
    """Yield the inputs that are kept for a target, by the order of their names."""
    for path in sorted((CORPUS / target).iterdir()):
        yield path.read_bytes()
