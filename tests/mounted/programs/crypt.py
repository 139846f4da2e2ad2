"""fusepy-crypt for a user who cannot read the program: as_user.py imports this while it is root."""

from fusepy_legacy.commands.crypt import main
from fusepy_legacy.views import decrypted, encrypted

__all__ = ["decrypted", "encrypted", "main"]
