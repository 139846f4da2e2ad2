"""Coverage-guided fuzzing of a target with atheris: see README.md here."""

import sys

import atheris

with atheris.instrument_imports(include=["fusepy_legacy", "json"]):
    from tests.fuzz.targets import CORPUS, TARGETS


def main() -> None:
    """Fuzz the target that the first argument names; the others are libFuzzer's."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(
            f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [libFuzzer's options] NEW-INPUTS"
        )
    target, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options, str(CORPUS / target)], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
