"""Measure how accuracy falls on corrupted images."""
