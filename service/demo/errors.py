"""The one way in which the demonstration fails."""

from __future__ import annotations


class DemoFailed(Exception):
    """The demonstration cannot go on, or the service answered what it should not; the message is for the terminal."""
