"""What the tests of the commands share."""

from __future__ import annotations

from said import say

__all__ = ["say"]
