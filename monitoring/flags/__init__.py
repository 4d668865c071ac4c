"""Feature flags: who is served by which backend, and why. Pure; `adapters.flag_file` reads and writes the file."""
