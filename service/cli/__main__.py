"""`python -m service.cli`. A file of its own: what processes of a what-if start from is not the whole command line."""

from __future__ import annotations

from service.cli import main

if __name__ == "__main__":
    main()
