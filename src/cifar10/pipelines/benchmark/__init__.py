"""Measure how fast each network is on this machine, and how long its recipe would take."""
