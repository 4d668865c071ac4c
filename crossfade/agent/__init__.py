"""The agent: a process on a machine that runs what it is told to, of a fixed list."""
