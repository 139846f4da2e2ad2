"""How fast the mirror is, next to the plain directory and to others' mirrors: `python -m benchmarks`."""
