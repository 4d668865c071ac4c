"""Collectors: one file per source, each a pure parser and a thin poller."""
