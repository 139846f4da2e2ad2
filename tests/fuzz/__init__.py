"""What an enemy's bytes do to fusepy_legacy.crypt: see README.md here."""
