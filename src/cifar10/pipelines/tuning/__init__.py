"""Search for a better recipe of one architecture, and confirm it."""
