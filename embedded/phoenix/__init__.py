"""The Phoenix channel protocol as Supabase Realtime speaks it, without I/O.

``frames`` and ``session`` turn received text into actions, ``bindings`` and ``filters`` say which database
changes a channel wants, ``changes`` prepares the frames that carry them. Nothing here reads a socket, a
clock or a database: the shell in ``embedded.realtime`` feeds what it received and does what it is told.
"""
