"""The inside of Crossfade: events, topics, cursors, the service port, sequencing, routing and flags.

No sockets, files, clocks or environment here; everything that touches the world is in an adapter.
"""
