"""Checks of what a machine serves: HTTP, PostgreSQL, Redis; configured in one file, each a probe and a collector."""
