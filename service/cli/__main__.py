"""`python -m service.cli`, in a file of its own.

A process that Python starts by `spawn` imports the main module again, unless its name ends in `.__main__`: so those of a
what-if start without the whole command line.
"""

from __future__ import annotations

from service.cli import main

if __name__ == "__main__":
    main()
