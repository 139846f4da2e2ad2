"""What fuzzing has found stays found: the corpus, and what is near it, goes through the targets."""

from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepy_legacy.crypt.errors import CryptError
from tests.fuzz import targets
from tests.fuzz.targets import CORPUS, GCM, NAMES, PLAIN, TARGETS, corpus

each_target = pytest.mark.parametrize("target", sorted(TARGETS))


def test_there_is_a_corpus_for_each_target() -> None:
    """And no other."""
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
    assert all(len(list(corpus(target))) >= 10 for target in TARGETS)


@each_target
def test_the_corpus_goes_through(target: str) -> None:
    """No exception but a CryptError, no plaintext that was not encrypted."""
    for data in corpus(target):
        TARGETS[target](data)


@each_target
@given(data=st.data())
def test_what_is_near_the_corpus_goes_through(target: str, data: Any) -> None:
    """An input with some bytes replaced, removed or doubled, or two of them joined."""
    inputs = list(corpus(target))
    changed = bytearray(data.draw(st.sampled_from(inputs)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(start + 20, len(changed))))
        piece = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from(inputs)))
        changed[start:end] = piece
    TARGETS[target](bytes(changed))


@pytest.mark.parametrize(
    ("target", "name", "wrong"),
    [
        ("config", "parse", lambda data: 1 / 0),
        ("name", "is_valid_name", lambda plain: False),
        ("content", "parse_header", lambda header: {}[0]),
        ("content", "PLAIN", bytes(len(PLAIN))),
        ("attribute", "decrypt_target", lambda cipher, names, text: b"something else"),
    ],
)
def test_a_target_notices(
    target: str, name: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that lets everything through would find nothing."""
    monkeypatch.setattr(targets, name, wrong)
    findings: List[Exception] = []
    for data in corpus(target):
        try:
            TARGETS[target](data)
        except Exception as error:
            findings.append(error)
    assert findings
    assert not any(isinstance(error, CryptError) for error in findings)


def test_the_corpus_reaches_both_ends() -> None:
    """Some of it is good data; a fuzzer starts from there."""
    assert any(data.startswith(b"\0\2") and _decrypts(data) for data in corpus("content"))
    assert any(_is_name(data) for data in corpus("name"))


def _decrypts(data: bytes) -> bool:
    try:
        return bool(GCM.decrypt_blocks(data[18:], 0, data[2:18]))
    except CryptError:
        return False


def _is_name(data: bytes) -> bool:
    try:
        return bool(NAMES.decrypt_name(data, targets.IV))
    except CryptError:
        return False
