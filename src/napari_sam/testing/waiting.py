"""One limit for everything that a test waits for."""

from __future__ import annotations

# Seconds. Tests wait for events, so the limit costs nothing while they pass; it only ends a test whose event never
# comes. It is large because a loaded machine may be ten times slower than an idle one.
TIMEOUT = 300
