"""Pure codecs, one module a dialect: text in, frozen messages out, and back. No sockets, clocks or tasks."""
