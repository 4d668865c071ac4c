"""Other machines, over SSH: pure parsers of what they print, and a thin session for each."""
